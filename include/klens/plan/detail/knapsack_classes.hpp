#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <klens/detail/instruction_set.hpp>
#include <numeric>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

__extension__ using wide_int = __int128;  // products of sizes

/// One way to satisfy a class. Neither is negative, and their sums over all classes stay below 2^61.
struct knapsack_item {
  std::int64_t weight = 0;
  std::int64_t cost = 0;
};

template <class Item>
[[nodiscard]] bool lighter(const Item& a, const Item& b) {
  return a.weight != b.weight ? a.weight < b.weight : a.cost < b.cost;
}

/// The classes of a multiple-choice knapsack, made ready for it. Items that another one of their class equals or beats in
/// weight and in cost are gone. Weights count from each class's lightest item, costs from its cheapest; both in units of
/// their greatest common divisor, so that the room is rounded down, and bounds are rounded up, to what sums can reach.
struct knapsack_classes {
  struct item {
    std::int64_t weight, cost;
    std::size_t index;  // in the caller's class
  };
  struct upgrade {  // to a heavier item of its class, along the lower convex hull
    std::size_t of_class, to;
    std::int64_t weight, saving;
  };

  std::vector<std::vector<item>> items;  ///< of each class: weights rise, costs fall
  std::vector<upgrade> upgrades;         ///< of all classes, those that save most per weight first
  std::int64_t room = 0;                 ///< for what weighs more than the lightest items
  std::int64_t base_cost = 0, cost_unit = 1;

  /// The lightest items together must fit the capacity.
  knapsack_classes(std::span<const std::vector<knapsack_item>> classes, std::int64_t capacity) : room(capacity) {
    for (const auto& each : classes) add_undominated(each);
    make_relative();
    for (std::size_t k = 0; k < items.size(); ++k) add_upgrades(k);
    std::stable_sort(upgrades.begin(), upgrades.end(),
                     [](const upgrade& a, const upgrade& b) {  // stable: each class keeps its order
                       return wide_int{a.saving} * b.weight > wide_int{b.saving} * a.weight;
                     });
  }

 private:
  void add_undominated(const std::vector<knapsack_item>& all) {
    std::vector<item> sorted, kept;
    for (std::size_t i = 0; i < all.size(); ++i) sorted.push_back({all[i].weight, all[i].cost, i});
    std::stable_sort(sorted.begin(), sorted.end(), lighter<item>);
    for (const item& each : sorted)
      if (kept.empty() || each.cost < kept.back().cost) kept.push_back(each);
    items.push_back(std::move(kept));
  }

  void make_relative() {
    std::int64_t weight_divisor = 0, cost_divisor = 0;
    for (auto& of_class : items) {
      const std::int64_t lightest = of_class.front().weight, cheapest = of_class.back().cost;
      room -= lightest;
      base_cost += cheapest;
      for (item& each : of_class) {
        weight_divisor = std::gcd(weight_divisor, each.weight -= lightest);
        cost_divisor = std::gcd(cost_divisor, each.cost -= cheapest);
      }
    }
    assert(room >= 0);
    if (weight_divisor == 0) return;  // one item everywhere
    room /= weight_divisor;
    cost_unit = cost_divisor;
    for (auto& of_class : items)
      for (item& each : of_class) each = {each.weight / weight_divisor, each.cost / cost_divisor, each.index};
  }

  void add_upgrades(std::size_t k) {
    const std::size_t first = upgrades.size();
    for (std::size_t to = 1; to < items[k].size(); ++to) {
      const item &before = items[k][to - 1], &after = items[k][to];
      upgrade next{k, to, after.weight - before.weight, before.cost - after.cost};
      for (; upgrades.size() > first; upgrades.pop_back()) {
        const upgrade& last = upgrades.back();
        if (wide_int{last.saving} * next.weight > wide_int{next.saving} * last.weight) break;
        next.weight += last.weight;
        next.saving += last.saving;
      }
      upgrades.push_back(next);
    }
  }
};

}  // namespace klens::detail
