#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/plan/unit.hpp>
#include <optional>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Allocations that differ from a given one by one swap, a unit that gets the next larger choice and one that gets the next smaller,
/// and still fit: those of the least damage, no unit raised twice, the best first. They are what a plan may be exchanged for when
/// damages are known to some percent only.
/// Throws     what allocation_of throws.
[[nodiscard]] inline std::vector<allocation> best_swaps(std::span<const plan_unit> units, const allocation& from,
                                                        std::uint64_t budget_bytes, std::size_t count) {
  const allocation start = allocation_of(units, from.chosen);
  // The next choice of a unit by size, of finite damage; none at the end.
  const auto next = [&](std::size_t u, bool larger) -> std::optional<std::size_t> {
    const std::vector<plan_choice>& choices = units[u].choices;
    const std::uint64_t own = choices[start.chosen[u]].bytes;
    std::optional<std::size_t> found;
    for (std::size_t c = 0; c < choices.size(); ++c) {
      if (larger ? choices[c].bytes <= own : choices[c].bytes >= own) continue;
      if (!detail::is_finite(choices[c].damage)) continue;
      if (!found || (larger ? choices[c].bytes < choices[*found].bytes : choices[c].bytes > choices[*found].bytes)) found = c;
    }
    return found;
  };
  std::vector<allocation> swapped;
  for (std::size_t up = 0; up < units.size(); ++up) {
    const std::optional<std::size_t> raised = next(up, true);
    std::optional<allocation> best;
    for (std::size_t down = 0; raised && down < units.size(); ++down) {
      const std::optional<std::size_t> lowered = next(down, false);
      if (down == up || !lowered) continue;
      std::vector<std::size_t> chosen = start.chosen;
      chosen[up] = *raised;
      chosen[down] = *lowered;
      const allocation made = allocation_of(units, std::move(chosen));
      if (made.bytes <= budget_bytes && (!best || made.damage < best->damage)) best = made;
    }
    if (best) swapped.push_back(*best);
  }
  std::stable_sort(swapped.begin(), swapped.end(),
                   [](const allocation& a, const allocation& b) { return a.damage < b.damage; });
  swapped.resize(std::min(swapped.size(), count));
  return swapped;
}

}  // namespace klens
