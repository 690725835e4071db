#pragma once

#include <cmath>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/instruction_set.hpp>
#include <limits>
#include <numbers>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

/// Gamma(a + 1/2) / Gamma(a), for a >= 1/2. The difference of two lgamma would lose digits as a grows.
[[nodiscard]] inline double gamma_ratio(double a) noexcept {
  double factor = 1;
  for (; a < 30; a += 1) factor *= a / (a + 0.5);
  const double r = 1 / a;
  return factor * std::sqrt(a) *
         (1 +
          r * (-1. / 8 + r * (1. / 128 + r * (5. / 1024 + r * (-21. / 32768 + r * (-399. / 262144 + r * 869. / 4194304))))));
}

/// The continued fraction of the incomplete beta function, so that I_x(a, b) = x^a (1-x)^b / (a B(a, b)) * beta_fraction; quick
/// for x < (a + 1) / (a + b + 2). Source: NIST DLMF 8.17.22, evaluated as by Lentz (Applied Optics 15, 1976).
[[nodiscard]] inline double beta_fraction(double x, double a, double b) noexcept {
  constexpr double tiny = 1e-300;
  const auto safe = [](double v) { return std::abs(v) < tiny ? tiny : v; };
  double c = 1, d = 1 / safe(1 - (a + b) * x / (a + 1)), value = d;
  for (int m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / safe(1 + even * d);
    c = safe(1 + even / c);
    value *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / safe(1 + odd * d);
    c = safe(1 + odd / c);
    value *= d * c;
    if (std::abs(d * c - 1) < 1e-16) break;
  }
  return value;
}

/// t times the density of Student's t at t. dof may be infinite: the normal distribution.
[[nodiscard]] inline double student_t_slope(double t, double dof) noexcept {
  if (detail::is_infinite(dof)) return t * std::exp(-t * t / 2) / std::sqrt(2 * std::numbers::pi);
  const double at_zero = gamma_ratio(dof / 2) / std::sqrt(dof * std::numbers::pi);
  return at_zero * t * std::exp(-(dof + 1) / 2 * std::log1p(t * t / dof));
}

}  // namespace detail

/// P(T > t) for Student's t. dof >= 1 need not be whole, and may be infinite: the normal distribution.
/// Edges      NaN for a NaN and for dof below 1.
[[nodiscard]] inline double student_t_tail(double t, double dof) noexcept {
  if (detail::is_nan(t) || !(dof >= 1)) return std::numeric_limits<double>::quiet_NaN();
  if (t < 0) return 1 - student_t_tail(-t, dof);
  if (detail::is_infinite(t)) return 0;
  if (detail::is_infinite(dof)) return std::erfc(t / std::numbers::sqrt2) / 2;
  // I_x(dof/2, 1/2) / 2 with x = dof / (dof + t^2); x^(dof/2) sqrt(1-x) / B is t times the density but for a factor
  const double square = t * t, x = dof / (dof + square), slope = detail::student_t_slope(t, dof);
  if (square > 3) return slope * detail::beta_fraction(x, dof / 2, 0.5) / dof;
  return 0.5 - slope * detail::beta_fraction(square / (dof + square), 0.5, dof / 2);
}

/// The t with P(T > t) = tail. dof >= 1 need not be whole, and may be infinite.
/// Edges      infinite for a tail of 0 or 1; NaN for a tail outside 0 .. 1 and for dof below 1.
/// Precision  1e-12 relative up to 10^4 degrees of freedom, in proportion to them beyond; tails from 1e-12 to 0.45.
[[nodiscard]] inline double student_t_quantile(double tail, double dof) noexcept {
  if (!(tail >= 0 && tail <= 1) || !(dof >= 1)) return std::numeric_limits<double>::quiet_NaN();
  if (tail == 0) return std::numeric_limits<double>::infinity();
  if (tail > 0.5) return -student_t_quantile(1 - tail, dof);
  if (tail == 0.5) return 0;
  double t = 1;
  while (student_t_tail(t, dof) > tail) t *= 2;
  // ln P(T > t) is concave in ln t, and t lies beyond the solution: Newton's steps in these variables never pass it.
  for (int step = 0; step < 200; ++step) {
    const double beyond = student_t_tail(t, dof);
    const double next = t * std::exp(beyond * std::log(beyond / tail) / detail::student_t_slope(t, dof));
    if (!(next < t)) break;
    t = next;
  }
  return t;
}

}  // namespace klens
