#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/metric/metric.hpp>
#include <klens/stats/student_t.hpp>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// What a scan keeps of one candidate and metric: for each sequence the sum of the values and the sum of the weights.
/// A sequence of weight 0 and value 0 has no position that counts, and is passed over.
using sequence_sums = std::span<const contribution>;

inline constexpr double unbounded = std::numeric_limits<double>::infinity();

/// From low to high, both included.
struct interval {
  double low = 0;
  double high = 0;

  [[nodiscard]] bool contains(double value) const noexcept { return low <= value && value <= high; }
};

/// Sum of values / sum of weights: the mean over all positions. NaN where no position counts.
[[nodiscard]] inline double mean_of(sequence_sums by_sequence) noexcept {
  contribution total{0, 0};
  for (const contribution& each : by_sequence) {
    total.value += each.value;
    total.weight += each.weight;
  }
  if (total.value == 0 && total.weight == 0) return std::numeric_limits<double>::quiet_NaN();  // 0 / 0 would be -nan
  return total.value / total.weight;
}

/// A number with the interval that holds what it would be on all the text in the world.
struct estimate {
  double value = 0;
  std::optional<interval> range;  ///< none with fewer than two sequences

  /// The data do not rule out 0. For a difference: which of the two is larger is open. True also where there is no range.
  [[nodiscard]] bool may_be_zero() const noexcept { return !range || range->contains(0); }
};

namespace detail {

/// Throws argument_error for a confidence that is no share between 0 and 1.
inline void expect_confidence(double confidence) {
  if (!(confidence > 0 && confidence < 1))
    refuse<argument_error>({"a confidence of ", number_text(confidence), ": it lies between 0 and 1, as 0.95 does"});
}

[[nodiscard]] inline bool counts(const contribution& sums) noexcept { return sums.value != 0 || sums.weight != 0; }

/// How much each sequence moves the mean: (value - mean * weight) * sequences / sum of weights. They sum to 0, and their spread
/// is to the mean what the spread of n values is to their average.
[[nodiscard]] inline std::vector<double> influences(sequence_sums by_sequence) {
  const double mean = mean_of(by_sequence);
  double weight = 0;
  for (const contribution& each : by_sequence) weight += each.weight;
  std::vector<double> moves;
  moves.reserve(by_sequence.size());
  for (const contribution& each : by_sequence)
    moves.push_back((each.value - mean * each.weight) * static_cast<double>(by_sequence.size()) / weight);
  return moves;
}

/// The interval of an estimate that each sequence moves by so much: Student's t, and the same with its skewness taken out by
/// Hall's transformation; each end is the one further out. The former alone is too low for heavy tails, the latter alone too
/// narrow at the end that few sequences know little of.
[[nodiscard]] inline std::optional<interval> interval_around(double estimate, std::span<const double> moves,
                                                             double confidence) {
  if (moves.size() < 2) return std::nullopt;
  const auto n = static_cast<double>(moves.size());
  double squares = 0, cubes = 0;
  for (const double each : moves) {
    squares += each * each;
    cubes += each * each * each;
  }
  if (!(squares > 0)) return interval{estimate, estimate};
  const double moment = squares / n;
  const double skewness = n > 2 ? std::sqrt(n * (n - 1)) / (n - 2) * (cubes / n) / (moment * std::sqrt(moment)) : 0;
  const double a = skewness / std::sqrt(n);
  const double error = std::sqrt(moment / (n - 1));
  // Hall: g(T) = T + a T^2/3 + a^2 T^3/27 + a/6 is nearly symmetric for the studentized error T. This is g's inverse.
  const auto skewed = [a](double t) {
    const double c = std::cbrt(1 + a * (t - a / 6));
    return 3 * (t - a / 6) / (c * c + c + 1);
  };
  const double t = student_t_quantile((1 - confidence) / 2, n - 1);
  return interval{estimate - error * std::max(t, skewed(t)), estimate - error * std::min(-t, skewed(-t))};
}

}  // namespace detail

/// Standard error of the mean: how far it scatters from one set of sequences to another of as many. NaN with fewer than two
/// sequences that count.
[[nodiscard]] inline double standard_error(sequence_sums by_sequence) {
  std::vector<contribution> counted;
  for (const contribution& each : by_sequence)
    if (detail::counts(each)) counted.push_back(each);
  const auto n = static_cast<double>(counted.size());
  if (n < 2) return std::numeric_limits<double>::quiet_NaN();
  double squares = 0;
  for (const double each : detail::influences(counted)) squares += each * each;
  return std::sqrt(squares / (n - 1) / n);
}

/// The interval that holds the mean over all the text that the sequences were drawn from, with that confidence. Tokens of one
/// sequence depend on each other, so only the spread between sequences tells how sure the mean is.
///   `least`    what no mean can be below: 0 for a divergence. The interval ends there.
/// Edges      none with fewer than two sequences; width 0 where all agree. Where a sequence is infinite, so is the mean: the
///            interval is unbounded on that side, and its other end is that of the finite sequences.
/// Precision  not exact. A 95 % interval held the mean in 93.5 to 96.5 % of the cases, from 8 sequences of 256 tokens on, for
///            values whose spread is 0.8 to 6 times their mean, independent or weakly dependent within a sequence; in 90 %
///            where single tokens or sequences dominate (docs/theory.md has the table).
/// Throws     argument_error for a confidence outside 0 .. 1.
/// Source     ratio estimator, sequences as clusters: W. G. Cochran, Sampling Techniques (1977), chapters 6 and 9; skewness:
///            P. Hall, J. R. Statist. Soc. B 54 (1992) 221-228.
[[nodiscard]] inline std::optional<interval> mean_interval(sequence_sums by_sequence, double confidence = 0.95,
                                                           double least = -unbounded) {
  detail::expect_confidence(confidence);
  std::vector<contribution> finite;
  std::size_t infinite = 0;
  for (const contribution& each : by_sequence)
    if (detail::counts(each)) detail::is_finite(each.value) ? finite.push_back(each) : void(++infinite);
  if (finite.size() + infinite < 2) return std::nullopt;
  const auto of_finite = detail::interval_around(mean_of(finite), detail::influences(finite), confidence);
  interval range = of_finite.value_or(interval{-unbounded, unbounded});
  if (const double mean = mean_of(by_sequence); infinite > 0) {
    if (!(mean < 0)) range.high = unbounded;
    if (!(mean > 0)) range.low = -unbounded;
  }
  return interval{std::max(range.low, least), std::max(range.high, least)};
}

/// mean(a) - mean(b) over the sequences that both have seen (the first of the longer list), with the interval that holds it.
/// Sequences that are hard for one candidate are hard for most, so this is far sharper than comparing two intervals.
/// Edges      none with fewer than two sequences in common; an infinite difference is unbounded on its side of 0, that of two
///            infinite means on both.
/// Throws     argument_error for a confidence outside 0 .. 1.
[[nodiscard]] inline estimate difference_of(sequence_sums a, sequence_sums b, double confidence = 0.95) {
  detail::expect_confidence(confidence);
  const std::size_t common = std::min(a.size(), b.size());
  std::vector<contribution> first, second;
  for (std::size_t s = 0; s < common; ++s)
    if (detail::counts(a[s]) && detail::counts(b[s])) {
      first.push_back(a[s]);
      second.push_back(b[s]);
    }
  const double value = mean_of(first) - mean_of(second);
  if (first.size() > 1 && !detail::is_finite(value))
    return {value, interval{value == unbounded ? 0 : -unbounded, value == -unbounded ? 0 : unbounded}};
  std::vector<double> moves = detail::influences(first);
  const std::vector<double> of_second = detail::influences(second);
  for (std::size_t s = 0; s < moves.size(); ++s) moves[s] -= of_second[s];
  return {value, detail::interval_around(value, moves, confidence)};
}

/// Which candidates of a ranking are ties: the same number for those of one group, counted from 0. A group goes on as long as
/// its candidates cannot be told from its first. `ranked` is in the order of the ranking.
/// Edges      with fewer than two sequences nothing can be told: every candidate is a group of its own.
/// Throws     argument_error for a confidence outside 0 .. 1.
[[nodiscard]] inline std::vector<std::size_t> tie_groups(std::span<const sequence_sums> ranked, double confidence = 0.95) {
  detail::expect_confidence(confidence);
  std::vector<std::size_t> groups(ranked.size(), 0);
  for (std::size_t i = 1, first = 0; i < ranked.size(); ++i) {
    const estimate apart = difference_of(ranked[first], ranked[i], confidence);
    const bool tied = apart.range && apart.may_be_zero();
    if (!tied) first = i;
    groups[i] = groups[i - 1] + (tied ? 0 : 1);
  }
  return groups;
}

}  // namespace klens
