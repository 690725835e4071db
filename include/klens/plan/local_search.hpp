#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <klens/plan/tolerance.hpp>
#include <klens/plan/unit.hpp>
#include <optional>
#include <queue>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace klens {

/// Improves an allocation by measuring it: predicted damages are of one layer at a time, and layers interact. A move makes
/// one unit milder, or one milder and another one smaller, each to its next choice, within the budget. The most promising
/// move by prediction is measured first; the first that measures better is kept, and the search goes on from there. It ends
/// when none of the most promising moves helps, or after `measurements` of them.
/// measure    measure(chosen) gives the damage of one choice for each unit, all together; lower is better, NaN never is.
/// Note       what it gains on the tokens it measures on is partly their noise: report it on others.
/// Throws     argument_error for a start above the budget; shape_error, argument_error, numeric_error for units that make
///            no sense; what measure throws.
struct local_search {
  std::size_t measurements = 100;

  template <std::invocable<std::span<const std::size_t>> Measure>
  [[nodiscard]] measured_allocation operator()(std::span<const plan_unit> units, std::uint64_t budget_bytes, allocation start,
                                               Measure&& measure) const {
    detail::expect_units(units);
    measured_allocation best{allocation_of(units, std::move(start.chosen)), 0, 1};
    if (best.found.bytes > budget_bytes)
      throw argument_error{"local search: the start takes " + std::to_string(best.found.bytes) + " bytes, the budget is " +
                           std::to_string(budget_bytes)};
    best.measured = measure(std::span<const std::size_t>{best.found.chosen});
    std::set<std::vector<std::size_t>> tried{best.found.chosen};
    for (bool improved = true; improved;) {
      improved = false;
      for (const move& each : promising(units, best.found, budget_bytes)) {
        std::vector<std::size_t> chosen = best.found.chosen;
        for (const change& part : {each.milder, each.smaller})
          if (part.unit < units.size()) chosen[part.unit] = part.to;
        if (!tried.insert(chosen).second) continue;
        if (best.measurements > measurements) return best;
        const double value = measure(std::span<const std::size_t>{chosen});
        ++best.measurements;
        if (!(value < best.measured)) continue;
        best.found = allocation_of(units, std::move(chosen));
        best.measured = value;
        improved = true;
        break;
      }
    }
    return best;
  }

 private:
  struct change {
    std::size_t unit, to;
    std::int64_t bytes;
    double damage;
  };
  struct move {
    change milder, smaller;  // a unit past the end: none

    [[nodiscard]] double damage() const { return milder.damage + smaller.damage; }
    [[nodiscard]] bool operator<(const move& other) const {
      return std::tuple(damage(), milder.unit, smaller.unit) <
             std::tuple(other.damage(), other.milder.unit, other.smaller.unit);
    }
  };

  // The nearest milder choice of each unit (of fewest bytes) and the nearest smaller one (of least damage).
  [[nodiscard]] static std::optional<change> next_milder(const plan_unit& unit, std::size_t index, std::size_t present) {
    const plan_choice& from = unit.choices[present];
    return best_change(
        unit, index, present, [&](const plan_choice& to) { return to.damage < from.damage; }, detail::bytes_of);
  }
  [[nodiscard]] static std::optional<change> next_smaller(const plan_unit& unit, std::size_t index, std::size_t present) {
    const plan_choice& from = unit.choices[present];
    return best_change(
        unit, index, present, [&](const plan_choice& to) { return to.bytes < from.bytes; }, detail::damage_of);
  }
  template <class Allowed, class Key>
  [[nodiscard]] static std::optional<change> best_change(const plan_unit& unit, std::size_t index, std::size_t present,
                                                         const Allowed& allowed, const Key& key) {
    std::optional<std::size_t> best;
    for (std::size_t c = 0; c < unit.choices.size(); ++c)
      if (std::isfinite(unit.choices[c].damage) && allowed(unit.choices[c]) &&
          (!best || key(unit.choices[c]) < key(unit.choices[*best])))
        best = c;
    if (!best) return std::nullopt;
    const plan_choice &from = unit.choices[present], &to = unit.choices[*best];
    return change{index, *best, static_cast<std::int64_t>(to.bytes) - static_cast<std::int64_t>(from.bytes),
                  to.damage - from.damage};
  }

  // At most `measurements` moves, the lowest predicted damage first.
  [[nodiscard]] std::vector<move> promising(std::span<const plan_unit> units, const allocation& from,
                                            std::uint64_t budget_bytes) const {
    const auto room = static_cast<std::int64_t>(std::min(budget_bytes, detail::largest_plan_bytes) - from.bytes);
    const change none{units.size(), 0, 0, 0};
    std::vector<change> milder, smaller{none};
    for (std::size_t u = 0; u < units.size(); ++u) {
      if (const auto found = next_milder(units[u], u, from.chosen[u])) milder.push_back(*found);
      if (const auto found = next_smaller(units[u], u, from.chosen[u])) smaller.push_back(*found);
    }
    std::priority_queue<move> lowest;  // its top is the worst of those kept
    for (const change& up : milder) {
      for (const change& down : smaller) {
        if (up.unit == down.unit || up.bytes + down.bytes > room) continue;
        lowest.push({up, down});
        if (lowest.size() > measurements) lowest.pop();
      }
    }
    std::vector<move> moves;
    for (; !lowest.empty(); lowest.pop()) moves.push_back(lowest.top());
    std::ranges::reverse(moves);
    return moves;
  }
};

}  // namespace klens
