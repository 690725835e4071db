#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/instruction_set.hpp>
#include <limits>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

/// Derivatives of ln Gamma for x > 0, by recurrence to x >= 10 and the asymptotic series there; 1e-12 relative or absolute.
[[nodiscard]] inline double digamma(double x) noexcept {
  double shift = 0;
  for (; x < 10; x += 1) shift -= 1 / x;
  const double r = 1 / (x * x);
  return shift + std::log(x) - 0.5 / x - r * (1. / 12 - r * (1. / 120 - r * (1. / 252 - r * (1. / 240 - r / 132))));
}
[[nodiscard]] inline double trigamma(double x) noexcept {
  double shift = 0;
  for (; x < 10; x += 1) shift += 1 / (x * x);
  const double r = 1 / (x * x);
  return shift + 1 / x + r / 2 + r / x * (1. / 6 - r * (1. / 30 - r * (1. / 42 - r * (1. / 30 - r * 5. / 66))));
}

/// The x with trigamma(x) = value, for value > 0.
[[nodiscard]] inline double inverse_trigamma(double value) noexcept {
  double low = 0.5 / value, high = 1 / value + 1;  // 1/x + 1/(2 x^2) < trigamma(x) < 1/x + 1/x^2
  low = std::min(low, 1 / std::sqrt(2 * value));
  for (int step = 0; step < 200 && high - low > 1e-14 * high; ++step) {
    const double middle = (low + high) / 2;
    (trigamma(middle) > value ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace detail

/// Shrinks variances that are each known from few observations towards what all of them have in common.
struct shrunken_variances {
  double prior = 0;      ///< the common variance
  double prior_dof = 0;  ///< how many degrees of freedom it is worth; may be infinite
  double own_dof = 0;    ///< behind each variance alone
  double dof = 0;        ///< of Student's t with a shrunken variance

  /// The shrunken variance: the mean of both, weighted by their degrees of freedom.
  [[nodiscard]] double operator()(double variance) const noexcept {
    if (detail::is_infinite(prior_dof)) return prior;
    return (prior_dof * prior + own_dof * variance) / (prior_dof + own_dof);
  }
};

/// Empirical Bayes: true variances are taken to scatter as a scaled inverse chi-square, whose scale and degrees of freedom
/// follow from the mean and the variance of ln(variance). With fewer than three positive variances nothing is shrunken.
///   own_dof    degrees of freedom behind each variance
/// Source     G. K. Smyth, Statist. Appl. Genet. Mol. Biol. 3 (2004) article 3; the degrees of freedom are kept at or below
///            those of all variances together.
[[nodiscard]] inline shrunken_variances shrink_variances(std::span<const double> variances, double own_dof) {
  double count = 0, mean = 0, squares = 0;
  for (const double each : variances)
    if (each > 0 && detail::is_finite(each)) {
      count += 1;
      const double log_variance = std::log(each), before = mean;
      mean += (log_variance - mean) / count;
      squares += (log_variance - before) * (log_variance - mean);
    }
  if (count < 3) return {.own_dof = own_dof, .dof = own_dof};
  const double centre = mean - detail::digamma(own_dof / 2) + std::log(own_dof / 2);
  const double scatter = squares / (count - 1) - detail::trigamma(own_dof / 2);
  if (scatter <= 0) return {std::exp(centre), std::numeric_limits<double>::infinity(), own_dof, count * own_dof};
  const double half_dof = detail::inverse_trigamma(scatter);
  return {std::exp(centre + detail::digamma(half_dof) - std::log(half_dof)), 2 * half_dof, own_dof,
          std::min(2 * half_dof + own_dof, count * own_dof)};
}

}  // namespace klens
