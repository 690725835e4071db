#pragma once
// Scores that must be the same, bit for bit.

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/rank/scores.hpp>
#include <vector>

namespace support {

/// NaN is NaN: what is not known has no bits to keep.
[[nodiscard]] inline bool same_bits(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b) || (std::isnan(a) && std::isnan(b));
}

inline void check_same(const std::vector<klens::contribution>& a, const std::vector<klens::contribution>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t s = 0; s < a.size(); ++s) {
    CHECK(same_bits(a[s].value, b[s].value));
    CHECK(same_bits(a[s].weight, b[s].weight));
  }
}

inline void check_same(const klens::metric_score& a, const klens::metric_score& b) {
  CHECK(same_bits(a.mean, b.mean));
  CHECK(same_bits(a.low, b.low));
  CHECK(same_bits(a.high, b.high));
  CHECK(same_bits(a.worst, b.worst));
  CHECK(a.worst_position == b.worst_position);
  check_same(a.by_sequence, b.by_sequence);
}

inline void check_same(const std::vector<klens::metric_score>& a, const std::vector<klens::metric_score>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t m = 0; m < a.size(); ++m) check_same(a[m], b[m]);
}

inline void check_same(const std::vector<klens::position_band>& a, const std::vector<klens::position_band>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].first == b[i].first);
    CHECK(a[i].last == b[i].last);
    CHECK(same_bits(a[i].mean, b[i].mean));
    CHECK(same_bits(a[i].low, b[i].low));
    CHECK(same_bits(a[i].high, b[i].high));
    check_same(a[i].by_sequence, b[i].by_sequence);
  }
}

inline void check_same(const klens::layer_score& a, const klens::layer_score& b) {
  CHECK(a.layer == b.layer);
  CHECK(a.kind == b.kind);
  CHECK(a.scheme == b.scheme);
  CHECK(a.note == b.note);
  CHECK(a.rows == b.rows);
  CHECK(a.columns == b.columns);
  CHECK(a.bytes == b.bytes);
  CHECK(a.positions == b.positions);
  CHECK(a.result == b.result);
  CHECK(a.reason == b.reason);
  CHECK(a.place == b.place);
  CHECK(a.source == b.source);
  CHECK(same_bits(a.local_energy, b.local_energy));
  CHECK(same_bits(a.gain, b.gain));
  CHECK(same_bits(a.weight_sqnr_db, b.weight_sqnr_db));
  CHECK(a.site == b.site);
  check_same(a.metrics, b.metrics);
  check_same(a.by_position, b.by_position);
}

/// Everything but the cost.
inline void check_same(const klens::scores& a, const klens::scores& b) {
  REQUIRE(a.metrics.size() == b.metrics.size());
  for (std::size_t m = 0; m < a.metrics.size(); ++m) {
    CHECK(a.metrics[m].name == b.metrics[m].name);
    CHECK(a.metrics[m].unit == b.metrics[m].unit);
    CHECK(a.metrics[m].higher_is_worse == b.metrics[m].higher_is_worse);
    CHECK(a.metrics[m].damage == b.metrics[m].damage);
  }
  REQUIRE(a.candidates.size() == b.candidates.size());
  for (std::size_t c = 0; c < a.candidates.size(); ++c) check_same(a.candidates[c], b.candidates[c]);
  REQUIRE(a.quantized.size() == b.quantized.size());
  for (std::size_t q = 0; q < a.quantized.size(); ++q) {
    CHECK(a.quantized[q].scheme == b.quantized[q].scheme);
    check_same(a.quantized[q].metrics, b.quantized[q].metrics);
  }
  check_same(a.noise, b.noise);
  CHECK(a.skipped == b.skipped);
  CHECK(same_bits(a.expected_tau, b.expected_tau));
  CHECK(a.remarks == b.remarks);
  check_same(a.reference.nll_by_sequence, b.reference.nll_by_sequence);
  CHECK(a.sequences == b.sequences);
  CHECK(a.positions == b.positions);
  CHECK(a.tokens == b.tokens);
  CHECK(a.complete == b.complete);
}

}  // namespace support
