#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/metric/metric.hpp>
#include <klens/stats/interval.hpp>
#include <limits>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// A metric's mean over some positions of each sequence, which are counted from 1: 1 to 128, 129 to 256, 257 to 512, and so on,
/// each band as long as all before it.
struct position_band {
  static constexpr std::size_t shortest = 128;

  std::size_t first = 1;
  std::size_t last = shortest;
  double mean = std::numeric_limits<double>::quiet_NaN();
  double low = std::numeric_limits<double>::quiet_NaN();  ///< 95 % interval, from the spread between sequences
  double high = std::numeric_limits<double>::quiet_NaN();
  std::vector<contribution> by_sequence;  ///< sums over the band
};

/// How damage changes along a sequence: with every doubling of the position it becomes `factor` times what it was.
struct damage_growth {
  double factor = std::numeric_limits<double>::quiet_NaN();
  double low = std::numeric_limits<double>::quiet_NaN();  ///< 95 % interval of the factor; NaN with a single sequence
  double high = std::numeric_limits<double>::quiet_NaN();

  /// The data rule out that it stays or falls.
  [[nodiscard]] bool grows() const noexcept { return low > 1; }
};

namespace detail {

/// The band of a position, which is counted from 0.
[[nodiscard]] constexpr std::size_t band_of(std::size_t position) noexcept {
  return static_cast<std::size_t>(std::bit_width(position / position_band::shortest));
}

/// Band number b, of sequences that are at most so long.
[[nodiscard]] constexpr position_band band_number(std::size_t b, std::size_t longest) noexcept {
  position_band band;
  if (b > 0) band.first = (position_band::shortest << (b - 1)) + 1;
  band.last = std::min(position_band::shortest << b, longest);
  return band;
}

/// Takes in one more sequence, of so many positions: its sums in each band.
inline void add_sequence(std::vector<position_band>& bands, std::span<const contribution> sums, std::size_t positions) {
  const std::size_t before = bands.empty() ? 0 : bands.front().by_sequence.size();
  while (bands.size() < sums.size()) {
    bands.push_back(band_number(bands.size(), positions));
    bands.back().by_sequence.assign(before, {0, 0});
  }
  for (std::size_t b = 0; b < bands.size(); ++b) bands[b].by_sequence.push_back(b < sums.size() ? sums[b] : contribution{0, 0});
}

/// Means and intervals of what was found by sequence; `least` is what no mean can be below.
inline void summarize(std::vector<position_band>& bands, double least) {
  for (position_band& each : bands) {
    each.mean = mean_of(each.by_sequence);
    if (const auto range = mean_interval(each.by_sequence, 0.95, least)) {
      each.low = range->low;
      each.high = range->high;
    }
  }
}

}  // namespace detail

/// The slope of ln(mean) against log2(position), by least squares over the bands that have a mean above 0, as a factor.
/// Sequences are what varies: each moves the slope by what it moves the bands' means by.
/// Edges      NaN with fewer than two such bands; a band that ends early counts with the middle of what it has.
[[nodiscard]] inline damage_growth growth_of(std::span<const position_band> bands) {
  std::vector<const position_band*> used;
  for (const position_band& each : bands)
    if (each.mean > 0 && detail::is_finite(each.mean)) used.push_back(&each);
  if (used.size() < 2) return {};
  std::vector<double> at;
  double middle = 0, squares = 0;
  for (const position_band* each : used) {
    at.push_back(std::log2(static_cast<double>(each->first + each->last) / 2));
    middle += at.back() / static_cast<double>(used.size());
  }
  for (double& each : at) {
    each -= middle;
    squares += each * each;
  }
  double slope = 0;
  std::vector<double> moves;
  for (std::size_t b = 0; b < used.size(); ++b) {
    const double share = at[b] / squares;
    slope += share * std::log(used[b]->mean);
    const std::vector<double> of_band = detail::influences(used[b]->by_sequence);
    moves.resize(std::max(moves.size(), of_band.size()), 0.0);
    for (std::size_t s = 0; s < of_band.size(); ++s) moves[s] += share * of_band[s] / used[b]->mean;
  }
  damage_growth growth{std::exp(slope)};
  if (const auto range = detail::interval_around(slope, moves, 0.95)) {
    growth.low = std::exp(range->low);
    growth.high = std::exp(range->high);
  }
  return growth;
}

}  // namespace klens
