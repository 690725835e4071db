#pragma once

#include <cmath>

namespace klens::detail {

/// ln(1 + s) - s for s > -1, without cancellation: -s^2/2 + s^3/3 - ... where s is small.
/// With z = s / (2 + s), ln(1 + s) = 2 atanh(z) and 2z - s = -s z exactly, so the linear terms never meet.
[[nodiscard]] inline double log1p_minus(double s) noexcept {
  if (std::abs(s) > 0.25) return std::log1p(s) - s;
  const double z = s / (2 + s);
  const double z2 = z * z;  // at most 1/49
  double tail = 1.0 / 19;
  for (int k = 17; k >= 3; k -= 2) tail = tail * z2 + 1.0 / k;
  return 2 * z * z2 * tail - s * z;
}

}  // namespace klens::detail
