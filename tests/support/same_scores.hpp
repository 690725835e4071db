#pragma once
// Scores that must be the same, bit for bit.

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/rank/scores.hpp>

namespace support {

/// NaN is NaN: what is not known has no bits to keep.
[[nodiscard]] inline bool same_bits(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b) || (std::isnan(a) && std::isnan(b));
}

inline void check_same(const klens::metric_score& a, const klens::metric_score& b) {
  CHECK(same_bits(a.mean, b.mean));
  CHECK(same_bits(a.low, b.low));
  CHECK(same_bits(a.high, b.high));
  CHECK(same_bits(a.worst, b.worst));
  CHECK(a.worst_position == b.worst_position);
}

/// Everything but the cost.
inline void check_same(const klens::scores& a, const klens::scores& b) {
  REQUIRE(a.candidates.size() == b.candidates.size());
  CHECK(a.sequences == b.sequences);
  CHECK(a.positions == b.positions);
  CHECK(same_bits(a.reference.nll(), b.reference.nll()));
  for (std::size_t c = 0; c < a.candidates.size(); ++c) {
    CHECK(a.candidates[c].positions == b.candidates[c].positions);
    CHECK(a.candidates[c].result == b.candidates[c].result);
    for (std::size_t m = 0; m < a.metrics.size(); ++m) check_same(a.candidates[c].metrics[m], b.candidates[c].metrics[m]);
  }
}

}  // namespace support
