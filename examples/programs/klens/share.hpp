#pragma once

#include <algorithm>
#include <cstdint>
#include <klens/plan/unit.hpp>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

namespace klens {

/// Two schemes only: a share of the weights, those that mind it least, takes each unit's smallest choice, the rest its
/// mildest. Units go by the damage of their smallest choice, lowest first. What `ratio` does in NNCF, for comparison.
/// Throws     argument_error when the smallest choices do not fit, or for a ratio outside 0 .. 1; argument_error,
///            numeric_error for units that make no sense.
struct share {
  static constexpr std::string_view name = "share";

  /// Goes on while the small units hold less than `ratio` of all weights; the unit that would reach it stays. Ratio 1 takes
  /// them all.
  [[nodiscard]] allocation at(std::span<const plan_unit> units, double ratio) const {
    if (!(ratio >= 0 && ratio <= 1))
      throw argument_error{"share: the ratio is " + detail::number_text(ratio) + "; it must lie between 0 and 1"};
    detail::expect_units(units);
    double weights = 0, small = 0;
    for (const plan_unit& unit : units) weights += static_cast<double>(unit.weights);
    return lower(units, [&](const plan_unit& next, std::uint64_t) {
      small += static_cast<double>(next.weights);
      return ratio == 1 || small < ratio * weights;
    });
  }

  /// The smallest share that fits the budget.
  [[nodiscard]] allocation operator()(std::span<const plan_unit> units, std::uint64_t budget_bytes) const {
    detail::expect_units(units);
    detail::expect_possible(units, budget_bytes);
    return lower(units, [&](const plan_unit&, std::uint64_t present_bytes) { return present_bytes > budget_bytes; });
  }

 private:
  // Makes units small in ascending damage, as long as go_on(next unit, bytes so far).
  template <class GoOn>
  [[nodiscard]] static allocation lower(std::span<const plan_unit> units, GoOn go_on) {
    const std::vector<std::size_t> small = detail::smallest_choices(units).chosen;
    allocation result = detail::mildest_choices(units);
    std::vector<std::size_t> order(units.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t u) { return units[u].choices[small[u]].damage; });
    for (const std::size_t u : order) {
      if (!go_on(units[u], result.bytes)) break;
      result.bytes -= units[u].choices[result.chosen[u]].bytes;
      result.bytes += units[u].choices[small[u]].bytes;
      result.chosen[u] = small[u];
    }
    return allocation_of(units, std::move(result.chosen));
  }
};
static_assert(allocator<share>);

}  // namespace klens
