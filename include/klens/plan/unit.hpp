#pragma once
// What every allocator works on and gives back.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// One way to store a unit.
struct plan_choice {
  std::vector<std::string> schemes;  ///< one for each layer of the unit, in the unit's order
  std::uint64_t bytes = 0;           ///< of all its layers together, exact
  double damage = 0;                 ///< predicted, higher is worse, adds up over units; +inf: never choose this
};

/// What is decided as one: a layer, or several that must be stored alike.
struct plan_unit {
  std::vector<std::string> layers;
  std::uint64_t weights = 0;  ///< how many, of all its layers together
  std::vector<plan_choice> choices{};
};

/// One choice for each unit.
struct allocation {
  std::vector<std::size_t> chosen;  ///< an index into the choices of each unit
  std::uint64_t bytes = 0;
  double damage = 0;  ///< summed in the order of the units
  /// How much better another allocation could be at most, in what was minimized (damage or bytes). 0: none is better;
  /// infinity: nothing was proven.
  double gap = std::numeric_limits<double>::infinity();
};

/// Decides what each unit becomes, so that all of them together take at most budget_bytes. Throws argument_error where even
/// the smallest choices do not fit.
template <class A>
concept allocator = requires(const A& a, std::span<const plan_unit> units, std::uint64_t budget_bytes) {
  { a(units, budget_bytes) } -> std::same_as<allocation>;
  { A::name } -> std::convertible_to<std::string_view>;
};

/// Weights of all layers of some units.
[[nodiscard]] inline std::uint64_t weights_of(std::span<const plan_unit> units) noexcept {
  std::uint64_t weights = 0;
  for (const plan_unit& each : units) weights += each.weights;
  return weights;
}

/// Bytes and damage of one choice for each unit. Throws shape_error for more or fewer choices than units, argument_error for a
/// choice that a unit has not.
[[nodiscard]] inline allocation allocation_of(std::span<const plan_unit> units, std::vector<std::size_t> chosen) {
  if (chosen.size() != units.size())
    throw shape_error{"allocation: " + std::to_string(chosen.size()) + " choices for " + std::to_string(units.size()) +
                      " units"};
  allocation result{.chosen = std::move(chosen)};
  for (std::size_t u = 0; u < units.size(); ++u) {
    if (result.chosen[u] >= units[u].choices.size())
      throw argument_error{"allocation: choice " + std::to_string(result.chosen[u]) + " of unit " + std::to_string(u) +
                           ", which has " + std::to_string(units[u].choices.size())};
    const plan_choice& choice = units[u].choices[result.chosen[u]];
    result.bytes += choice.bytes;
    result.damage += choice.damage;
  }
  return result;
}

namespace detail {

/// "attn.q_proj" or "attn.q_proj (+2)": how a unit is called in a message.
[[nodiscard]] inline std::string unit_text(const plan_unit& unit) {
  if (unit.layers.empty()) return "a unit without layers";
  return unit.layers.front() + (unit.layers.size() == 1 ? "" : " (+" + std::to_string(unit.layers.size() - 1) + ")");
}

inline constexpr std::uint64_t largest_plan_bytes = std::uint64_t{1} << 60;  // products of sizes then fit 128 bits

/// Throws argument_error at what no allocator can work with, numeric_error at a damage that is NaN or -inf.
inline void expect_units(std::span<const plan_unit> units) {
  std::unordered_set<std::string_view> seen;
  std::uint64_t largest_sum = 0;
  for (const plan_unit& unit : units) {
    if (unit.layers.empty()) throw argument_error{"plan: a unit without layers"};
    for (const std::string& layer : unit.layers)
      if (!seen.insert(layer).second) throw argument_error{"plan: layer " + layer + " appears twice; keep one of them"};
    bool possible = false;
    std::uint64_t largest = 0;
    for (const plan_choice& choice : unit.choices) {
      if (choice.schemes.size() != unit.layers.size())
        throw argument_error{"plan: " + unit_text(unit) + " has " + std::to_string(unit.layers.size()) + " layers, a choice " +
                             std::to_string(choice.schemes.size()) + " schemes"};
      if (detail::is_nan(choice.damage) || choice.damage == -std::numeric_limits<double>::infinity())
        throw numeric_error{"plan: the damage of " + unit_text(unit) + " under " + choice.schemes.front() + " is " +
                            (detail::is_nan(choice.damage) ? "NaN" : "-inf") + "; score it again or leave it out"};
      if (choice.bytes >= largest_plan_bytes) throw argument_error{"plan: the size of " + unit_text(unit) + " is not a size"};
      possible = possible || detail::is_finite(choice.damage);
      largest = std::max(largest, choice.bytes);
    }
    if (!possible) throw argument_error{"plan: " + unit_text(unit) + " has no candidate with a finite damage; score it first"};
    largest_sum += largest;
    if (largest_sum >= largest_plan_bytes) throw argument_error{"plan: the sizes add up to more than 2^60 bytes"};
  }
}

/// The choice with the least first(choice), then the least second(choice), among those of finite damage.
template <class First, class Second>
[[nodiscard]] std::size_t least(const plan_unit& unit, const First& first, const Second& second) {
  std::size_t best = unit.choices.size();
  for (std::size_t c = 0; c < unit.choices.size(); ++c) {
    const plan_choice& choice = unit.choices[c];
    if (!detail::is_finite(choice.damage)) continue;
    if (best == unit.choices.size() || first(choice) < first(unit.choices[best]) ||
        (first(choice) == first(unit.choices[best]) && second(choice) < second(unit.choices[best])))
      best = c;
  }
  return best;
}

inline constexpr auto bytes_of = [](const plan_choice& choice) { return choice.bytes; };
inline constexpr auto damage_of = [](const plan_choice& choice) { return choice.damage; };

/// The choice of fewest bytes (then of least damage) for each unit.
[[nodiscard]] inline allocation smallest_choices(std::span<const plan_unit> units) {
  std::vector<std::size_t> chosen;
  for (const plan_unit& unit : units) chosen.push_back(least(unit, bytes_of, damage_of));
  return allocation_of(units, std::move(chosen));
}

/// The choice of least damage (then of fewest bytes) for each unit.
[[nodiscard]] inline allocation mildest_choices(std::span<const plan_unit> units) {
  std::vector<std::size_t> chosen;
  for (const plan_unit& unit : units) chosen.push_back(least(unit, damage_of, bytes_of));
  return allocation_of(units, std::move(chosen));
}

inline void expect_possible(std::span<const plan_unit> units, std::uint64_t budget_bytes) {
  const std::uint64_t smallest = smallest_choices(units).bytes;
  if (smallest > budget_bytes)
    throw argument_error{"plan: nothing fits " + std::to_string(budget_bytes) + " bytes; the smallest possible is " +
                         std::to_string(smallest) + " bytes"};
}

}  // namespace detail
}  // namespace klens
