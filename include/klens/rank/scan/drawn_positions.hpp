#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <klens/detail/random.hpp>

namespace klens::detail {

/// Which positions of a sequence are measured when `wanted` are drawn across all sequences: every sequence gives as many as any
/// other (one more or less where they do not divide), drawn without replacement, so that the mean over them estimates the mean
/// over all. Depends on seed and sequence alone, not on batches. Ascending; all positions where wanted is 0 or not fewer than
/// there are.
[[nodiscard]] inline std::vector<std::size_t> drawn_positions(std::size_t wanted, std::uint64_t seed, std::size_t sequence,
                                                              std::size_t sequences, std::size_t length) {
  std::vector<std::size_t> positions(length);
  std::iota(positions.begin(), positions.end(), std::size_t{0});
  if (wanted == 0 || wanted >= sequences * length) return positions;
  const std::size_t count = (sequence + 1) * wanted / sequences - sequence * wanted / sequences;
  random_stream random{seed, sequence};
  for (std::size_t i = 0; i < count; ++i) std::swap(positions[i], positions[i + random.below(length - i)]);
  positions.resize(count);
  std::ranges::sort(positions);
  return positions;
}

}  // namespace klens::detail
