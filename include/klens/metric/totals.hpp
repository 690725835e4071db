#pragma once

#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/metric/metric.hpp>
#include <limits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A sum of doubles that keeps what each addition rounds away: twice the digits, so that the order of additions and of merges
/// does not show in value(). Once infinite, it stays so.
/// Source     Knuth, The Art of Computer Programming 2, 4.2.2 (two-sum).
class compensated_sum {
 public:
  void add(double term) noexcept {
    const double sum = kept(sum_ + term);
    const double of_term = kept(sum - sum_);
    const double rest = (sum_ - kept(sum - of_term)) + (term - of_term);
    sum_ = sum;
    rest_ += rest;
  }
  void add(const compensated_sum& other) noexcept {
    add(other.sum_);
    rest_ += other.rest_;
  }
  [[nodiscard]] double value() const noexcept { return detail::is_finite(sum_) ? sum_ + rest_ : sum_; }

 private:
  /// The same, as it was rounded: with -ffast-math compilers would find that the rest is 0.
  [[nodiscard]] static double kept(double value) noexcept {
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__)
    const volatile double in_memory = value;
    return in_memory;
#else
    return value;
#endif
  }

  double sum_ = 0;
  double rest_ = 0;
};

/// Keeps the worst value and its position, in a metric's own direction: of equal ones the smallest position. A NaN is no value;
/// `worst` is NaN until there is one.
inline void take_worst(bool higher_is_worse, double& worst, std::size_t& at, double value, std::size_t position) noexcept {
  if (is_nan(value)) return;
  const bool worse = is_nan(worst) || (higher_is_worse ? value > worst : value < worst);
  if (!worse && !(value == worst && position < at)) return;
  worst = value;
  at = position;
}

}  // namespace klens::detail

namespace klens::inline KLENS_INSTRUCTION_SET {

/// What a metric has measured so far, so that a calibration set can come in parts: add positions, merge totals, ask for the
/// mean at any time. Sums carry twice the digits of a double, so halves merge to what the whole gives, whatever was cut where.
template <metric Metric>
class totals {
 public:
  totals() = default;
  explicit totals(Metric of_metric) : metric_(of_metric) {}

  /// Adds what the metric says of one position; `position` is any number that tells positions apart.
  void add(contribution measured, std::size_t position) noexcept {
    value_.add(measured.value);
    weight_.add(measured.weight);
    if (measured.weight == 0) return;
    ++positions_;
    detail::take_worst(Metric::higher_is_worse, worst_, worst_position_, finished(measured.value / measured.weight), position);
  }
  void merge(const totals& other) noexcept {
    value_.add(other.value_);
    weight_.add(other.weight_);
    detail::take_worst(Metric::higher_is_worse, worst_, worst_position_, other.worst_, other.worst_position_);
    positions_ += other.positions_;
  }

  /// Sum of values / sum of weights, in the metric's unit; NaN where nothing was added.
  [[nodiscard]] double mean() const noexcept { return finished(value_.value() / weight_.value()); }
  /// Both sums as they are.
  [[nodiscard]] contribution sum() const noexcept { return {value_.value(), weight_.value()}; }
  /// Positions with a weight other than 0.
  [[nodiscard]] std::size_t positions() const noexcept { return positions_; }
  /// The value, in the metric's unit, at the position where it is worst, and that position (of equal ones the smallest); NaN
  /// and 0 where no position counted.
  [[nodiscard]] double worst() const noexcept { return worst_; }
  [[nodiscard]] std::size_t worst_position() const noexcept { return worst_position_; }

 private:
  [[nodiscard]] double finished(double mean) const noexcept {
    if constexpr (requires { metric_.finish(mean); })
      return metric_.finish(mean);
    else
      return mean;
  }

  Metric metric_{};
  detail::compensated_sum value_;
  detail::compensated_sum weight_;
  std::size_t positions_ = 0;
  double worst_ = std::numeric_limits<double>::quiet_NaN();
  std::size_t worst_position_ = 0;
};

}  // namespace klens
