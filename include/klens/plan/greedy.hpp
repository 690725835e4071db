#pragma once

#include <cstdint>
#include <klens/plan/unit.hpp>
#include <queue>
#include <span>
#include <string_view>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Starts from the smallest choices; again and again takes, of all changes that still fit, the one that saves the most
/// damage for each added byte. A change goes from a unit's present choice to any larger one. Ends where none saves damage.
/// Throws     argument_error when the smallest choices do not fit; argument_error, numeric_error for units that make no
///            sense.
/// Source     the usual heuristic; on each unit's hull it is within one change of the optimum (Dantzig 1957).
struct greedy {
  static constexpr std::string_view name = "greedy";

  [[nodiscard]] allocation operator()(std::span<const plan_unit> units, std::uint64_t budget_bytes) const {
    detail::expect_units(units);
    detail::expect_possible(units, budget_bytes);
    allocation result = detail::smallest_choices(units);
    std::uint64_t room = budget_bytes - result.bytes;
    std::priority_queue<change> changes;
    for (std::size_t u = 0; u < units.size(); ++u) push_best(changes, units[u], u, result.chosen[u], room);
    while (!changes.empty()) {
      const change best = changes.top();
      changes.pop();
      if (best.bytes <= room) {
        room -= best.bytes;
        result.chosen[best.unit] = best.to;
      }  // else the room has shrunk since: the unit comes back with its best change that fits, which saves no more per byte
      push_best(changes, units[best.unit], best.unit, result.chosen[best.unit], room);
    }
    return allocation_of(units, std::move(result.chosen));
  }

 private:
  struct change {
    double saved_per_byte;
    std::size_t unit, to;
    std::uint64_t bytes;

    [[nodiscard]] bool operator<(const change& other) const {  // the priority queue hands out the largest
      return saved_per_byte != other.saved_per_byte ? saved_per_byte < other.saved_per_byte : unit > other.unit;
    }
  };

  static void push_best(std::priority_queue<change>& changes, const plan_unit& unit, std::size_t index, std::size_t present,
                        std::uint64_t room) {
    const plan_choice& from = unit.choices[present];
    change best{0, index, present, 0};
    for (std::size_t c = 0; c < unit.choices.size(); ++c) {
      const plan_choice& to = unit.choices[c];
      if (!(to.damage < from.damage) || to.bytes < from.bytes || to.bytes - from.bytes > room) continue;
      // equal sizes: a free gain, which comes before all others
      const double rate = (from.damage - to.damage) / static_cast<double>(to.bytes - from.bytes);
      if (rate > best.saved_per_byte || (rate == best.saved_per_byte && to.damage < unit.choices[best.to].damage))
        best = {rate, index, c, to.bytes - from.bytes};
    }
    if (best.to != present) changes.push(best);
  }
};
static_assert(allocator<greedy>);

}  // namespace klens
