#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/plan/detail/plan_groups.hpp>
#include <klens/plan/detail/scored_layer.hpp>
#include <klens/plan/name_pattern.hpp>
#include <klens/plan/plan.hpp>
#include <klens/plan/unit.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/scores.hpp>
#include <klens/site_kind.hpp>
#include <klens/stats/interval.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// A scheme on offer to a layer.
struct scheme_offer {
  std::string scheme;
  std::uint64_t bytes = 0;  ///< of the whole layer under it, exactly
};

/// A layer that a plan is made for.
struct plan_layer {
  std::string name;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::optional<scheme_offer> untouched{};  ///< what holds its weights bit for bit; none where that is not known
};

/// How scores become choices.
struct unit_options {
  std::string metric = "kl";  ///< whose damages are added up
  /// Layers whose names match one of these keep their weights. Regular expressions, searched in the names.
  std::vector<std::string> keep{};
  /// Where the damage of such a layer is unknown it counts as 0: the caller vouches for it.
  std::vector<std::string> assume_harmless{};
  double largest_damage = unbounded;  ///< candidates that lose more are not on offer
  /// The damage of a candidate that was measured, where the metric is not the scores' own. Must add up over layers.
  std::function<double(const layer_score&)> damage{};
  /// What a scored scheme takes in storage; nothing where the layer cannot be stored so. Not set: as klens stores it.
  std::function<std::optional<scheme_offer>(const plan_layer&, const std::string& scheme)> offer{};
};

/// Units to allocate, one a layer, and the candidates that are not among their choices because nobody knows their damage.
struct scored_units {
  std::vector<plan_unit> units;
  std::vector<unknown_damage> unknown;
};

/// Whether the scores say what the candidate loses. Where its weights stayed as they were, that is nothing.
[[nodiscard]] inline bool has_damage(const layer_score& candidate) { return detail::why_unknown(candidate).empty(); }

/// What every scheme of the scores would do to each layer, as units for an allocator. The last choice of a layer is what holds
/// its weights (plan_layer::untouched), at damage 0.
///   Unknown is not harmless: a candidate that was not measured, that failed, or whose change reached no logit has no damage.
///   It is not on offer. A layer of which nothing else is known keeps its weights; where nothing holds them, it has one choice,
///   its largest scheme, whose damage counts as 0 and is none. `unknown` lists them all.
/// Throws     argument_error: a metric that was not measured; a candidate that is missing or there twice; a scored layer that
///            is not among `layers`; a layer without any scheme; a pattern that is malformed or matches nothing.
[[nodiscard]] inline scored_units units_of(const scores& all, std::span<const plan_layer> layers,
                                           const unit_options& options = {}) {
  const detail::scored_candidates candidates{all};
  std::vector<std::string> names;
  for (const plan_layer& each : layers) names.push_back(each.name);
  candidates.expect_among(names);
  std::vector<name_pattern> kept, harmless;
  for (const std::string& each : options.keep) kept.emplace_back(each);
  for (const std::string& each : options.assume_harmless) harmless.emplace_back(each);
  const auto any = [](std::vector<name_pattern>& patterns, const std::string& name) {
    return std::count_if(patterns.begin(), patterns.end(), [&](name_pattern& each) { return each.matches(name); }) > 0;
  };
  const std::size_t metric = options.damage ? 0 : all.index_of(options.metric);
  const auto damage_of = [&](const layer_score& candidate) {
    return options.damage ? options.damage(candidate) : all.metrics[metric].linear_damage(candidate.metrics[metric].mean);
  };
  const auto offer_of = [&](const plan_layer& each, const std::string& name) -> std::optional<scheme_offer> {
    if (options.offer) return options.offer(each, name);
    const scheme storage{name};
    if (!storage.stores(each.columns)) return std::nullopt;
    return scheme_offer{storage.name(), storage.bytes(each.rows, each.columns)};
  };

  const std::vector<std::string> schemes = all.schemes();
  scored_units found;
  for (const plan_layer& each : layers) {
    plan_unit& unit = found.units.emplace_back(plan_unit{{each.name}, each.rows * each.columns});
    const bool keep = any(kept, each.name), vouched_for = any(harmless, each.name);
    std::optional<scheme_offer> largest;  // of those whose damage is unknown
    for (const std::string& name : schemes) {
      if (keep) break;
      const std::optional<scheme_offer> offer = offer_of(each, name);
      if (!offer) continue;
      const layer_score& candidate = candidates.at(each.name, name);
      const std::string why = detail::why_unknown(candidate);
      const bool storable = detail::is_storable(candidate);
      if (!why.empty()) found.unknown.push_back({each.name, name, why, vouched_for && storable});
      if (!why.empty() && storable && (!largest || offer->bytes > largest->bytes)) largest = offer;
      const double damage = why.empty() ? damage_of(candidate) : 0;
      if (!why.empty() && !found.unknown.back().assumed_harmless) continue;
      if (damage > options.largest_damage) continue;
      unit.choices.push_back({{offer->scheme}, offer->bytes, damage});
    }
    const auto has = [&](const std::string& name) { return detail::find_choice(unit, name) != nullptr; };
    if (each.untouched && !has(each.untouched->scheme))
      unit.choices.push_back({{each.untouched->scheme}, each.untouched->bytes, 0});
    if (unit.choices.empty() && largest && !keep) unit.choices.push_back({{largest->scheme}, largest->bytes, 0});
    if (unit.choices.empty())
      throw argument_error{"plan: " + each.name +
                           " has no scheme on offer; score it under one that can store it, or leave it out"};
  }
  for (const auto* list : {&kept, &harmless})
    for (const name_pattern& each : *list) each.expect_matched();
  return found;
}

/// The smallest of fp16, bf16 and f32 that holds every weight of all layers, bit for bit. What comes into being while a model runs
/// is no weight: only f32 holds it.
[[nodiscard]] inline scheme holding_scheme(std::span<const layer> layers) {
  bool in_fp16 = true, in_bf16 = true;
  for (const layer& each : layers) {
    if (each.site != site_kind::weights) continue;
    const matrix<float> weights = each.load();
    in_fp16 = in_fp16 && detail::holds_weights<half>(weights);
    in_bf16 = in_bf16 && detail::holds_weights<bfloat16>(weights);
  }
  return in_fp16 ? scheme{"fp16"} : in_bf16 ? scheme{"bf16"} : scheme{"f32"};
}

/// The same for the layers of a model. Those that are not kept fall back to one scheme that holds the weights of all of them.
[[nodiscard]] inline scored_units units_of(const scores& all, std::span<const layer> layers, const unit_options& options = {}) {
  std::vector<name_pattern> kept;
  for (const std::string& each : options.keep) kept.emplace_back(each);
  std::vector<layer> planned;
  for (const layer& each : layers)
    if (std::none_of(kept.begin(), kept.end(), [&](name_pattern& pattern) { return pattern.matches(each.name); }))
      planned.push_back(each);
  const scheme of_weights = holding_scheme(planned), at_run_time{"f32"};
  std::vector<plan_layer> as_planned;
  for (const layer& each : layers) {
    const scheme& holding = each.site == site_kind::weights ? of_weights : at_run_time;
    as_planned.push_back(
        {each.name, each.rows(), each.columns(), scheme_offer{holding.name(), holding.bytes(each.rows(), each.columns())}});
  }
  return units_of(all, as_planned, options);
}

/// The same for the layers that the scores name, of whose weights nothing is known: nothing holds them.
[[nodiscard]] inline scored_units units_of(const scores& all, const unit_options& options = {}) {
  std::vector<plan_layer> layers;
  for (const layer_score& each : all.candidates)
    if (std::none_of(layers.begin(), layers.end(), [&](const plan_layer& known) { return known.name == each.layer; }))
      layers.push_back({each.layer, each.rows, each.columns});
  return units_of(all, layers, options);
}

}  // namespace klens
