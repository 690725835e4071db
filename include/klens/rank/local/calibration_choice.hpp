#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/random.hpp>
#include <klens/rank/local/gain_model.hpp>
#include <map>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// How many candidates are measured to learn gains from, where nobody says: it grows with the square root of how many there are.
[[nodiscard]] inline std::size_t calibrations_for(std::size_t candidates) {
  return static_cast<std::size_t>(std::llround(3.2 * std::sqrt(static_cast<double>(candidates))));
}

/// Which candidates are measured. At most one of a layer: a layer measured under one scheme tells of it under the others. Half
/// are drawn, as many of each kind as can be, so that they stand for all; then come those whose log energy is highest for their
/// scheme, since they may be the worst. Those without energy are passed over. In a random order, so that any part of it stands
/// for all.
[[nodiscard]] inline std::vector<std::size_t> choose_calibrations(const std::vector<gain_item>& items,
                                                                  const std::vector<double>& energies, std::size_t count,
                                                                  std::uint64_t seed) {
  std::vector<std::size_t> order;
  std::map<std::size_t, double> levels, members;
  for (std::size_t c = 0; c < items.size(); ++c) {
    if (!(energies[c] > 0)) continue;
    order.push_back(c);
    levels[items[c].scheme] += std::log(energies[c]);
    members[items[c].scheme] += 1;
  }
  random_stream random{seed};
  random.shuffle(order);
  std::vector<bool> taken;
  for (const gain_item& each : items) taken.resize(std::max(taken.size(), each.layer + 1), false);
  std::vector<std::size_t> chosen;
  const auto take = [&](std::size_t up_to) {
    for (const std::size_t c : order) {
      if (chosen.size() >= up_to) return;
      if (taken[items[c].layer]) continue;
      taken[items[c].layer] = true;
      chosen.push_back(c);
    }
  };
  std::map<std::size_t, std::size_t> of_kinds;
  std::vector<std::size_t> turns(items.size(), 0);
  for (const std::size_t c : order) turns[c] = of_kinds[items[c].kind]++;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return turns[a] < turns[b]; });
  take((count + 1) / 2);
  const auto height = [&](std::size_t c) { return std::log(energies[c]) - levels[items[c].scheme] / members[items[c].scheme]; };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return height(a) > height(b); });
  take(count);
  random.shuffle(chosen);
  return chosen;
}

/// Which of `count` calibrations, in their order, are measured on a batch: each on one at least, and enough to know the positions'
/// weights.
[[nodiscard]] inline std::vector<std::size_t> calibrations_of_batch(std::size_t count, std::size_t batch, std::size_t batches) {
  constexpr std::size_t enough = 12;
  const std::size_t share = (count + batches - 1) / batches;
  const std::size_t here = std::min(std::max(share, enough), count);
  std::vector<std::size_t> which;
  for (std::size_t i = 0; i < here; ++i) which.push_back((batch * here + i) % count);
  return which;
}

}  // namespace klens::detail
