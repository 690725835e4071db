#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <klens/plan/unit.hpp>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace klens {

/// Each unit takes its smallest choice whose damage does not exceed one common limit; where none is so mild, its mildest.
/// Sizes play no part: for comparison.
/// Throws     argument_error when the smallest choices do not fit; argument_error, numeric_error for units that make no
///            sense.
struct threshold {
  static constexpr std::string_view name = "threshold";

  /// What a given limit leads to.
  [[nodiscard]] allocation at(std::span<const plan_unit> units, double limit) const {
    detail::expect_units(units);
    return choose(units, limit);
  }

  /// The lowest limit that fits the budget.
  [[nodiscard]] allocation operator()(std::span<const plan_unit> units, std::uint64_t budget_bytes) const {
    detail::expect_units(units);
    detail::expect_possible(units, budget_bytes);
    std::vector<double> limits;
    for (const plan_unit& unit : units)
      for (const plan_choice& choice : unit.choices)
        if (std::isfinite(choice.damage)) limits.push_back(choice.damage);
    if (limits.empty()) return choose(units, 0);
    std::ranges::sort(limits);
    // a higher limit never takes more bytes; the highest gives the smallest choices
    const auto lowest = std::ranges::partition_point(limits.begin(), limits.end() - 1,
                                                     [&](double limit) { return choose(units, limit).bytes > budget_bytes; });
    return choose(units, *lowest);
  }

 private:
  [[nodiscard]] static allocation choose(std::span<const plan_unit> units, double limit) {
    allocation mildest = detail::mildest_choices(units);
    for (std::size_t u = 0; u < units.size(); ++u) {
      for (std::size_t c = 0; c < units[u].choices.size(); ++c) {
        const plan_choice &each = units[u].choices[c], &best = units[u].choices[mildest.chosen[u]];
        if (each.damage <= limit && std::pair(each.bytes, each.damage) < std::pair(best.bytes, best.damage))
          mildest.chosen[u] = c;
      }
    }
    return allocation_of(units, std::move(mildest.chosen));
  }
};
static_assert(allocator<threshold>);

}  // namespace klens
