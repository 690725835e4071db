#pragma once

#include <cmath>
#include <ostream>

/// What a measured number may be: `expected`, give or take a share of it and an absolute amount. Infinities must be equal, NaN
/// never is:  CHECK(measured == near{expected, 1e-5});
struct near {
  long double expected = 0;
  double relative = 0;
  double absolute = 0;

  friend bool operator==(double measured, const near& bound) {
    if (std::isinf(bound.expected)) return static_cast<long double>(measured) == bound.expected;
    const long double allowed =
        static_cast<long double>(bound.relative) * std::abs(bound.expected) + static_cast<long double>(bound.absolute);
    return std::abs(static_cast<long double>(measured) - bound.expected) <= allowed;
  }
  friend std::ostream& operator<<(std::ostream& to, const near& bound) {
    const auto digits = to.precision(20);
    to << bound.expected << " +- (" << bound.relative << " of it + " << bound.absolute << ")";
    to.precision(digits);
    return to;
  }
};
