#pragma once

#include <cstddef>
#include <klens/error.hpp>
#include <klens/plan/detail/plan_groups.hpp>
#include <klens/plan/name_pattern.hpp>
#include <klens/plan/unit.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Layers whose names match must have this scheme.
struct scheme_pin {
  std::string pattern;
  std::string scheme;
};

/// What a plan must respect. Patterns are ECMAScript regular expressions that are searched in layer names: anchor them with
/// ^ and $ where the whole name is meant. Each pattern given here must match at least one layer.
struct plan_constraints {
  /// Layers that match the same pattern with the same captures share one scheme: "(layers\.\d+)\.mlp\." takes all of a
  /// block's MLP together. Alternatives are written (?:gate|up), not captured. The first pattern that matches decides.
  std::vector<std::string> together{};
  /// After those, layers that engines fuse: the experts of a block, single or stacked in one tensor
  /// (`experts.gate_up_proj[3]`); q, k and v of an attention; gate and up (w1 and w3) of an MLP.
  bool together_by_kind = true;
  std::vector<scheme_pin> pins{};
  std::vector<std::string> keep_out{};  ///< these layers take no part: they are not in the result
};

namespace detail {

/// Leaves a pinned layer its one choice. False: the layer is kept out.
[[nodiscard]] inline bool restrict_layer(plan_unit& unit, std::span<name_pattern> keep_out, std::span<name_pattern> pins,
                                         std::span<const scheme_pin> schemes) {
  const std::string& name = unit.layers.front();
  bool out = false;
  for (name_pattern& each : keep_out) out = each.matches(name) || out;
  std::optional<std::string> pinned;
  for (std::size_t p = 0; p < pins.size(); ++p) {
    if (!pins[p].matches(name)) continue;
    const std::string& scheme = schemes[p].scheme;
    if (out) throw argument_error{"plan: " + name + " is kept out and pinned to " + scheme + "; drop one of the two"};
    if (pinned && *pinned != scheme)
      throw argument_error{"plan: " + name + " is pinned to " + *pinned + " and to " + scheme + "; drop one of the two"};
    pinned = scheme;
  }
  if (!pinned) return !out;
  const plan_choice* choice = find_choice(unit, *pinned);
  if (!choice)
    throw argument_error{"plan: " + name + " is pinned to " + *pinned + ", which is not among its candidates (" +
                         scheme_list(unit) + "); score it"};
  unit.choices = {plan_choice{*choice}};
  return true;
}

}  // namespace detail

/// Turns single layers with their candidates into units that keep the constraints, in the order of their first layers. The
/// damage of layers that share a scheme is the sum of their own.
/// Throws     argument_error: a pattern that is malformed or matches nothing, contradictory pins, a pin to a scheme that the
///            layer has no candidate for, layers that must share but have no scheme in common, and what every
///            allocator refuses; numeric_error for a NaN.
[[nodiscard]] inline std::vector<plan_unit> constrain(std::vector<plan_unit> layers, const plan_constraints& constraints) {
  detail::expect_units(layers);
  for (const plan_unit& unit : layers)
    if (unit.layers.size() != 1)
      throw argument_error{"plan: constraints start from single layers, and " + detail::unit_text(unit) + " are several"};

  std::vector<name_pattern> keep_out, together, pins;
  for (const std::string& each : constraints.keep_out) keep_out.emplace_back(each);
  for (const scheme_pin& each : constraints.pins) pins.emplace_back(each.pattern);
  for (const std::string& each : constraints.together) together.emplace_back(each);
  const std::size_t asked_for = together.size();
  if (constraints.together_by_kind)
    for (const char* kind : {R"(^(.*\.)(?:experts\.\d+\.|experts\.\w+\[\d+\]|(?:in|out)put_linear\.weight\[\d+\]))",
                             R"(^(.*\.)[qkv]_proj\.)", R"(^(.*\.)(?:gate|up)_proj\.)", R"(^(.*\.)w[13]\.)"})
      together.emplace_back(kind);

  std::vector<plan_unit> kept;
  for (plan_unit& unit : layers)
    if (detail::restrict_layer(unit, keep_out, pins, constraints.pins)) kept.push_back(std::move(unit));
  const auto group_of = [&](const plan_unit& unit) {
    std::optional<std::string> key;
    for (std::size_t t = 0; t < together.size() && !key; ++t)
      if (const auto captures = together[t].captures(unit.layers.front())) key = std::to_string(t) + '\n' + *captures;
    return key;
  };
  std::vector<plan_unit> units;
  for (const auto& members : detail::grouped(std::move(kept), group_of)) units.push_back(detail::share_scheme(members));
  together.erase(together.begin() + static_cast<std::ptrdiff_t>(asked_for), together.end());
  for (const auto* list : {&keep_out, &pins, &together})
    for (const name_pattern& each : *list) each.expect_matched();
  return units;
}

}  // namespace klens
