#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scores.hpp>
#include <klens/site.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The candidates of a scan: each layer under each scheme that can store it. Those that keep the same weights of a layer
/// (scheme::kept_as) are measured as one.
class candidate_list {
 public:
  /// Enters the candidates into the result, whose metrics are known, and what is no candidate, and why. Throws argument_error where
  /// there is none.
  candidate_list(std::span<const layer> layers, const std::vector<scheme>& schemes, direction from, scores& result)
      : by_layer_(layers.size()) {
    for (std::size_t l = 0; l < layers.size(); ++l)
      for (std::size_t s = 0; s < schemes.size(); ++s)
        if (is_stored(layers[l], schemes[s], result)) add(layers[l], l, schemes, s, from, result);
    if (result.candidates.empty())
      refuse<argument_error>({"no layer can be stored under any of the schemes: ",
                              result.skipped.empty() ? "none of them is one of its own" : result.skipped.front()});
  }

  [[nodiscard]] const std::vector<std::size_t>& of_layer(std::size_t layer_index) const { return by_layer_[layer_index]; }
  [[nodiscard]] std::size_t scheme_of(std::size_t candidate) const { return scheme_of_[candidate]; }
  /// The first candidate that keeps the same weights of the layer, which is measured for this one as well.
  [[nodiscard]] std::size_t measured_for(std::size_t candidate) const { return first_alike_[candidate]; }
  /// Those that this one is measured for, itself included; none where another is measured for it.
  [[nodiscard]] const std::vector<std::size_t>& alike(std::size_t candidate) const { return alike_[candidate]; }

 private:
  [[nodiscard]] static bool is_stored(const layer& each, const scheme& storage, scores& result) {
    if (!each.schemes.empty() && std::find(each.schemes.begin(), each.schemes.end(), storage.name()) == each.schemes.end())
      return false;
    const std::string why = why_not_stored(each, storage);
    if (!why.empty()) result.skipped.push_back(joined({each.name, ": ", storage.name(), " ", why}));
    return why.empty();
  }

  void add(const layer& each, std::size_t layer_index, const std::vector<scheme>& schemes, std::size_t scheme_index,
           direction from, scores& result) {
    const scheme& storage = schemes[scheme_index];
    const std::size_t candidate_index = result.candidates.size();
    std::size_t first = candidate_index;
    if (from == direction::from_reference)  // restoring a layer of two whole models is not the same
      for (const std::size_t other : by_layer_[layer_index])
        if (schemes[scheme_of_[other]].kept_as(each.columns()) == storage.kept_as(each.columns()))
          first = std::min(first, first_alike_[other]);
    alike_.emplace_back();
    alike_[first].push_back(candidate_index);
    first_alike_.push_back(first);
    by_layer_[layer_index].push_back(candidate_index);
    scheme_of_.push_back(scheme_index);
    layer_score candidate;
    candidate.layer = each.name;
    candidate.kind = each.kind;
    candidate.site = each.site;
    candidate.scheme = storage.name();
    candidate.note = each.note;
    candidate.rows = each.rows();
    candidate.columns = each.columns();
    candidate.bytes = storage.bytes(each.rows(), each.columns());
    candidate.metrics.resize(result.metrics.size());
    result.candidates.push_back(std::move(candidate));
  }

  std::vector<std::vector<std::size_t>> by_layer_;
  std::vector<std::size_t> scheme_of_;
  std::vector<std::size_t> first_alike_;
  std::vector<std::vector<std::size_t>> alike_;
};

}  // namespace klens::detail
