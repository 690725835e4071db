#include "model.hpp"

#include <algorithm>
#include <charconv>
#include <klens/detail/parallel_for.hpp>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <numeric>
#include "engine/elementwise.hpp"

#include "checkpoint.hpp"
#include "config.hpp"
#include "model_types.hpp"
#include "products.hpp"

namespace programs {
namespace {

/// The number in "model.layers.7.mamba.D"; -1 where there is none.
int block_of(std::string_view name) {
  constexpr std::string_view mark = "layers.";
  const std::size_t at = name.find(mark);
  int number = -1;
  if (at != std::string_view::npos) std::from_chars(name.data() + at + mark.size(), name.data() + name.size(), number);
  return number;
}

}  // namespace

model model::load(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder))
    throw klens::file_error(folder.string() + ": is no folder; name one with config.json and model.safetensors");
  const config fields(folder / "config.json");
  checkpoint tensors(folder);
  model loaded;
  loaded.parts_ = build_model(fields, tensors);
  loaded.type_ = fields.text("model_type", "");
  loaded.parameters_ = tensors.finish();
  std::ranges::stable_sort(loaded.parameters_, {}, [&](const auto& each) { return loaded.stage_of(*each); });
  return loaded;
}

std::size_t model::vocabulary() const noexcept { return static_cast<std::size_t>(parts_.embedding->values.rows()); }
std::size_t model::width() const noexcept { return static_cast<std::size_t>(parts_.embedding->values.cols()); }

std::size_t model::stage_of(const parameter& of) const {
  if (&of == parts_.embedding) return 0;
  return of.stage == 0 ? stages() : of.stage;
}

weight model::view(parameter& of) const {
  weight seen{.name = of.name,
              .values = of.values,
              .kind = klens::kind_of(of.name),
              .block = block_of(of.name),
              .stage = stage_of(of),
              .tied = &of == parts_.head && parts_.head == parts_.embedding,
              .tensor = of.name};
  if (of.name.find(".experts.") != std::string::npos) seen.kind = "expert_" + seen.kind;
  if (&of == parts_.head) {
    seen.name = "lm_head.weight";
    seen.kind = "lm_head";
  } else if (&of == parts_.embedding) {
    seen.kind = "embed_tokens";
  }
  return seen;
}

std::vector<weight> model::weights(bool split_fused) {
  std::vector<weight> all;
  for (const auto& each : parameters_) {
    if (!each->multiplies) continue;
    const weight whole = view(*each);
    if (!split_fused || each->parts.empty()) {
      all.push_back(whole);
      continue;
    }
    for (const row_range& part : each->parts) {
      weight some{
          .name = whole.name + "[" + part.name + "]",
          .values = each->values.middleRows(static_cast<Eigen::Index>(part.first), static_cast<Eigen::Index>(part.rows)),
          .kind = whole.kind + "[" + part.name + "]",
          .block = whole.block,
          .stage = whole.stage,
          .tensor = whole.tensor};
      all.push_back(some);
    }
  }
  return all;
}

std::vector<weight> model::small_weights() {
  std::vector<weight> all;
  for (const auto& each : parameters_)
    if (!each->multiplies) all.push_back(view(*each));
  return all;
}

state model::begin(std::span<const std::int32_t> tokens, std::size_t sequences, std::size_t length) const {
  if (sequences == 0 || length == 0 || tokens.size() / length != sequences || tokens.size() % length != 0)
    throw klens::shape_error("begin: " + std::to_string(tokens.size()) + " tokens are not " + std::to_string(sequences) +
                             " sequences of " + std::to_string(length) + "; both must be at least 1");
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || static_cast<std::size_t>(tokens[i]) >= vocabulary())
      throw klens::argument_error("token " + std::to_string(tokens[i]) + " at " + std::to_string(i) +
                                  " is outside the vocabulary of " + std::to_string(vocabulary()) +
                                  "; use the tokenizer of this model");
  return {sequences, length, {tokens.begin(), tokens.end()}, {}};
}

void model::advance(state& at, std::size_t stage, std::size_t threads) const {
  const auto length = static_cast<Eigen::Index>(at.length);
  if (stage == 0) {
    at.hidden.resize(static_cast<Eigen::Index>(at.tokens.size()), static_cast<Eigen::Index>(width()));
    for (Eigen::Index r = 0; r < at.hidden.rows(); ++r)
      klens::detail::map_elements(
          klens::row(at.hidden, r), [scale = parts_.embedding_scale](auto v) { return v * scale; },
          klens::row(parts_.embedding->values, at.tokens[static_cast<std::size_t>(r)]));
    return;
  }
  const residual_step& step = parts_.steps.at(stage - 1);
  klens::detail::parallel_for(threads, at.sequences, [&](std::size_t s) {
    const workspace_pool::lease work{*pool_};
    run(step, at.hidden.middleRows(static_cast<Eigen::Index>(s) * length, length), *work);
  });
}

void model::run(const residual_step& step, klens::matrix_ref<float> hidden, workspace& work) const {
  const workspace::frame frame{work};
  panel normed = work.take(hidden.rows(), hidden.cols()), scaled = work.take(hidden.rows(), hidden.cols());
  step.norm(hidden, normed);
  for (const branch& each : step.branches) {
    if (each.in_scale != 1)
      klens::detail::map_elements(
          all_of(scaled), [factor = each.in_scale](auto v) { return v * factor; }, all_of(normed));
    each.of->add_to(hidden, each.in_scale != 1 ? scaled : normed, each.out_scale, work);
  }
}

klens::matrix<float> model::logits(const state& at, std::size_t threads) const {
  const auto length = static_cast<Eigen::Index>(at.length);
  klens::matrix<float> all(at.hidden.rows(), static_cast<Eigen::Index>(vocabulary()));
  klens::detail::parallel_for(threads, at.sequences, [&](std::size_t s) {
    const workspace_pool::lease work{*pool_};
    const workspace::frame frame{*work};
    panel normed = (*work).take(length, at.hidden.cols());
    const Eigen::Index first = static_cast<Eigen::Index>(s) * length;
    parts_.final_norm(at.hidden.middleRows(first, length), normed);
    auto rows = all.middleRows(first, length);
    multiply_transposed(normed, parts_.head->values, rows);
    if (parts_.head_scale != 1) rows *= parts_.head_scale;
  });
  return all;
}

klens::matrix<float> model::logits(const state& at, std::span<const std::size_t> rows, std::size_t threads) const {
  constexpr std::size_t tile = 64;  // fixed, so that the number of threads changes nothing
  klens::matrix<float> all(static_cast<Eigen::Index>(rows.size()), static_cast<Eigen::Index>(vocabulary()));
  klens::detail::parallel_for(threads, (rows.size() + tile - 1) / tile, [&](std::size_t i) {
    const workspace_pool::lease work{*pool_};
    const workspace::frame frame{*work};
    const std::span<const std::size_t> some = rows.subspan(i * tile, std::min(tile, rows.size() - i * tile));
    const auto count = static_cast<Eigen::Index>(some.size());
    panel normed = (*work).take(count, at.hidden.cols());
    for (Eigen::Index r = 0; r < count; ++r)
      normalize_row(klens::row(at.hidden, static_cast<Eigen::Index>(some[static_cast<std::size_t>(r)])),
                    parts_.final_norm.weight->vector(), parts_.final_norm.epsilon, klens::row(normed, r));
    auto into = all.middleRows(static_cast<Eigen::Index>(i * tile), count);
    multiply_transposed(normed, parts_.head->values, into);
    if (parts_.head_scale != 1) into *= parts_.head_scale;
  });
  return all;
}

double model::flops(std::size_t stage, std::size_t length) const {
  if (stage == 0) return 0;
  if (stage == stages()) return 2.0 * static_cast<double>(length) * static_cast<double>(parts_.head->values.size());
  double total = 0;
  for (const branch& each : parts_.steps.at(stage - 1).branches) total += each.of->flops(length);
  return total;
}

}  // namespace programs
