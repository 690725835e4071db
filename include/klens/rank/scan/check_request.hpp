#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/detail/order.hpp>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scores.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

inline void check_options(const rank_options& options) {
  if (options.batches == 0) throw argument_error{"rank_layers: options.batches is 0; a scan needs at least one"};
  if (options.positions != 0 && options.tokens.empty())
    throw argument_error{"rank_layers: drawing options.positions needs options.tokens, which tell how many there are"};
  if (!(options.confidence > 0 && options.confidence < 1))
    refuse<argument_error>({"options.confidence is ", number_text(options.confidence), "; it lies between 0 and 1"});
  if (options.reference && options.method != scan_method::exact)
    throw argument_error{"options.reference needs the method exact: the others learn from the forward's own logits"};
  if (options.by_position && (options.method != scan_method::exact || options.from != direction::from_reference))
    throw argument_error{
        "options.by_position needs the method exact, and one layer changed at a time: others do not measure "
        "every candidate at every position"};
  if (options.counted.empty()) return;
  if (!options.tokens.empty() && options.counted.size() != options.tokens.size())
    refuse<shape_error>({"options.counted has ", options.counted.size(), " entries, options.tokens ", options.tokens.size(),
                         "; give one for each token"});
  if (std::find(options.counted.begin(), options.counted.end(), true) == options.counted.end())
    throw argument_error{"options.counted lets no position count; leave it empty for all"};
}

/// A name that is there twice.
[[nodiscard]] inline std::optional<std::string> repeated(const std::vector<std::string>& names) {
  const std::vector<std::size_t> order =
      order_of(names.size(), [&](std::size_t a, std::size_t b) { return names[a] < names[b]; });
  for (std::size_t i = 1; i < order.size(); ++i)
    if (names[order[i - 1]] == names[order[i]]) return names[order[i]];
  return std::nullopt;
}

/// Throws argument_error or shape_error, as rank_layers does for what is wrong from the start.
inline void check_request(std::span<const layer> layers, const std::vector<scheme>& schemes,
                          const std::vector<any_metric>& metrics, const rank_options& options, std::size_t stages) {
  if (layers.empty()) throw argument_error{"rank_layers: there is no layer to rank"};
  if (schemes.empty()) throw argument_error{"rank_layers: there is no scheme to rank layers under"};
  if (metrics.empty()) throw argument_error{"rank_layers: there is no metric to rank by"};
  check_options(options);
  std::vector<std::string> names;
  for (const any_metric& each : metrics) {
    if (options.from == direction::from_quantized && each.has_finish())
      refuse<argument_error>(
          {"metric ", each.name, " is no mean over positions: what restoring a layer saves of it is not defined"});
    names.push_back(each.name);
  }
  if (const auto twice = repeated(names)) refuse<argument_error>({"metric ", *twice, " is asked for twice"});
  if (options.by_position && metrics.front().has_finish())
    refuse<argument_error>({"metric ", names.front(), " is no mean over positions, so it has no bands of them"});
  names.clear();
  for (const scheme& each : schemes) names.push_back(each.name());
  if (const auto twice = repeated(names)) refuse<argument_error>({"scheme ", *twice, " is asked for twice"});
  names.clear();
  for (const layer& each : layers) {
    if (std::max(each.stage, each.last_stage) > stages)
      refuse<argument_error>(
          {each.name, ": its stage is ", std::max(each.stage, each.last_stage), ", the forward's head is stage ", stages});
    names.push_back(each.name);
  }
  if (const auto twice = repeated(names)) refuse<argument_error>({*twice, ": two layers have this name"});
}

/// Throws argument_error where a checkpoint contradicts itself: it may come from a file.
inline void check_resumed(const scan_checkpoint& from, const rank_options& options) {
  const std::string_view cannot = "options.resume cannot be taken up: ", so = "; start anew";
  const scores& so_far = from.so_far;
  if (from.batches > options.batches)
    refuse<argument_error>({cannot, "it has ", from.batches, " batches, the scan ", options.batches, so});
  for (const layer_score& each : so_far.candidates) {
    if (each.metrics.size() != so_far.metrics.size())
      refuse<argument_error>({cannot, each.layer, " does not have a score for each metric", so});
    const bool sees_all = each.place == standing::open && each.result != outcome::failed;
    if (sees_all && so_far.sequences > 0 && each.by_position.empty() == options.by_position)
      refuse<argument_error>({cannot, "one of the two looks at bands of position, the other does not", so});
    for (const metric_score& score : each.metrics)
      if (score.by_sequence.size() > so_far.sequences || (sees_all && score.by_sequence.size() != so_far.sequences))
        refuse<argument_error>({cannot, each.layer, " has sums of ", score.by_sequence.size(), " sequences, the scan has seen ",
                                so_far.sequences, so});
  }
}

}  // namespace klens::detail
