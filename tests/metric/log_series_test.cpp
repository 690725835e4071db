#include <klens/metric/detail/divergence_sums.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <support/near.hpp>

TEST_CASE("log1p_minus keeps relative accuracy at every size") {
  CHECK(klens::detail::log1p_minus(0) == 0);
  CHECK(klens::detail::log1p_minus(1) == near{-0.306852819440054690583L, 1e-15});
  CHECK(klens::detail::log1p_minus(0.25) == near{-0.026856448685790244234L, 1e-14});  // both sides of its switch
  CHECK(klens::detail::log1p_minus(-0.25) == near{-0.037682072451780927439L, 1e-14});
  for (double s = 1e-9; s < 0.9; s *= 1.3)
    for (const double sign : {-1.0, 1.0}) {
      const double at = sign * s;
      CAPTURE(at);
      long double series = 0, power = static_cast<long double>(at);  // -s^2/2 + s^3/3 - ..., summed as it stands
      for (int k = 2; k < 2000; ++k) {
        power *= -static_cast<long double>(at);
        series += power / k;
      }
      CHECK(klens::detail::log1p_minus(at) == near{series, 1e-14});
    }
}
