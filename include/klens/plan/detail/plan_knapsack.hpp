#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <klens/detail/float_bits.hpp>
#include <klens/error.hpp>
#include <klens/plan/detail/choice_knapsack.hpp>
#include <klens/plan/unit.hpp>
#include <span>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Units as classes of a knapsack. Damages count from each unit's least, in whole multiples of 2^-exponent; choices that are
/// forbidden or exceed the least by more than largest_excess are left out.
struct plan_knapsack {
  std::vector<std::vector<knapsack_item>> classes;  ///< weight: bytes, cost: damage
  std::vector<std::vector<std::size_t>> choice_of;  ///< the choice behind each item
  int exponent = 0;                                 ///< unit_damage = 2^-exponent
  double largest_sum = 0;                           ///< of the excesses that take part

  plan_knapsack(std::span<const plan_unit> units, const allocation& mildest, double largest_excess) {
    const auto excess = [&](std::size_t u, const plan_choice& choice) {
      return choice.damage - units[u].choices[mildest.chosen[u]].damage;
    };
    for (std::size_t u = 0; u < units.size(); ++u) {
      double largest = 0;
      for (const plan_choice& choice : units[u].choices)
        if (detail::is_finite(choice.damage) && excess(u, choice) <= largest_excess)
          largest = std::max(largest, excess(u, choice));
      largest_sum += largest;
    }
    if (!detail::is_finite(largest_sum))
      throw numeric_error{"plan: the damages add up to infinity; use +inf for what must not be chosen"};
    if (largest_sum > 0) exponent = 59 - std::ilogb(largest_sum);
    for (std::size_t u = 0; u < units.size(); ++u) {
      classes.emplace_back();
      choice_of.emplace_back();
      for (std::size_t c = 0; c < units[u].choices.size(); ++c) {
        const plan_choice& choice = units[u].choices[c];
        if (!detail::is_finite(choice.damage) || excess(u, choice) > largest_excess) continue;
        classes.back().push_back({static_cast<std::int64_t>(choice.bytes), whole(excess(u, choice))});
        choice_of.back().push_back(c);
      }
    }
  }

  [[nodiscard]] std::int64_t whole(double excess) const { return std::llround(std::ldexp(excess, exponent)); }

  void swap_roles() {
    for (auto& items : classes)
      for (knapsack_item& each : items) std::swap(each.weight, each.cost);
  }

  /// Least cost within the capacity, then least weight at that cost; and how far that cost may be from the least.
  [[nodiscard]] std::pair<std::vector<std::size_t>, std::int64_t> solve(std::int64_t capacity, std::size_t state_limit) {
    knapsack_answer best = choice_knapsack{classes, capacity}.solve(state_limit);
    if (best.cost == best.lower_bound) {
      swap_roles();
      knapsack_answer lightest = choice_knapsack{classes, best.cost}.solve(state_limit);
      swap_roles();
      if (lightest.cost == lightest.lower_bound) best.chosen = std::move(lightest.chosen);
    }
    for (std::size_t u = 0; u < best.chosen.size(); ++u) best.chosen[u] = choice_of[u][best.chosen[u]];
    return {std::move(best.chosen), best.cost - best.lower_bound};
  }
};

}  // namespace klens::detail
