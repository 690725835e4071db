#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <klens/detail/float_bits.hpp>
#include <klens/plan/detail/plan_knapsack.hpp>
#include <klens/plan/greedy.hpp>
#include <klens/plan/unit.hpp>
#include <limits>
#include <span>
#include <string_view>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// The best of all allocations, and the proof that it is: the least damage under a budget, or the fewest bytes under a limit
/// of damage.
/// Ties       of equal damage the fewest bytes, of equal bytes the least damage.
/// Precision  damages count from each unit's least and are rounded to multiples of at most 2^-59 of the largest sum that
///            could belong to an optimum. Nothing else is approximate: of n units each adds at most half a multiple.
/// Limits     problems as hard as a subset sum (damage a straight line over random sizes) have no known fast proof. Of more
///            than about state_limit partial plans, a second or two of work, the least promising are dropped; gap then says
///            what that may have cost. A gap of 0 is a proven optimum.
/// Throws     argument_error when nothing meets the budget or the limit, and says what is possible; argument_error,
///            numeric_error for units that make no sense.
/// Source     the multiple-choice knapsack problem; see detail/choice_knapsack.hpp.
struct exact {
  static constexpr std::string_view name = "exact";
  std::size_t state_limit = std::size_t{1} << 22;

  /// Least damage in at most budget_bytes. Never more than what greedy finds.
  [[nodiscard]] allocation operator()(std::span<const plan_unit> units, std::uint64_t budget_bytes) const {
    allocation known = greedy{}(units, budget_bytes);
    const allocation mildest = detail::mildest_choices(units);
    double excess = 0;
    for (std::size_t u = 0; u < units.size(); ++u)
      excess += units[u].choices[known.chosen[u]].damage - units[u].choices[mildest.chosen[u]].damage;
    detail::plan_knapsack problem(units, mildest, excess);
    auto [chosen, gap] =
        problem.solve(static_cast<std::int64_t>(std::min(budget_bytes, detail::largest_plan_bytes)), state_limit);
    allocation best = allocation_of(units, std::move(chosen));
    best.gap = std::ldexp(static_cast<double>(gap), -problem.exponent);
    if (best.damage <= known.damage) return best;
    known.gap = std::max(0.0, best.gap - (best.damage - known.damage));
    return known;
  }

  /// Fewest bytes at a damage of at most damage_limit, up to the rounding of a sum: n eps (|limit| + sum of |least|). The gap
  /// is in bytes.
  [[nodiscard]] allocation smallest(std::span<const plan_unit> units, double damage_limit) const {
    detail::expect_units(units);
    const allocation mildest = detail::mildest_choices(units);
    double magnitude = detail::is_finite(damage_limit) ? std::abs(damage_limit) : 0;
    for (std::size_t u = 0; u < units.size(); ++u) magnitude += std::abs(units[u].choices[mildest.chosen[u]].damage);
    const auto count = static_cast<double>(units.size());
    const double room = damage_limit - mildest.damage + count * std::numeric_limits<double>::epsilon() * magnitude;
    if (!(room >= 0))
      throw argument_error{"plan: no plan has a damage of at most " + detail::number_text(damage_limit) +
                           "; the least possible is " + detail::number_text(mildest.damage)};
    detail::plan_knapsack problem(units, mildest, room);
    const std::int64_t rounding = static_cast<std::int64_t>(units.size()) / 2 + 1;
    problem.swap_roles();
    auto [chosen, gap] = problem.solve(problem.whole(std::min(room, 2 * problem.largest_sum)) + rounding, state_limit);
    allocation best = allocation_of(units, std::move(chosen));
    best.gap = static_cast<double>(gap);
    return best;
  }
};
static_assert(allocator<exact>);

}  // namespace klens
