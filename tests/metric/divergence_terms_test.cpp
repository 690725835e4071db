#include <klens/metric/detail/divergence_terms.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <support/near.hpp>

namespace {

using arch = klens::detail::best_arch;
using vector = klens::detail::batch<float>;

double first(const vector& values) {
  float all[vector::size];
  values.store_unaligned(all);
  return static_cast<double>(all[0]);
}

/// e^d - 1 - d: by its series where the subtraction would leave nothing.
long double phi(long double d) {
  if (std::abs(d) > 0.5L) return std::exp(d) - 1 - d;
  long double sum = 0, term = d;
  for (int k = 2; k < 30; ++k) sum += term *= d / k;
  return sum;
}

}  // namespace

TEST_CASE("phi(d) / d^2 up to the switch") {
  for (float d = -klens::detail::small_difference; d <= klens::detail::small_difference; d += 1e-3f) {
    if (d == 0) continue;
    CAPTURE(d);
    const long double wide = d;
    CHECK(first(klens::detail::phi_ratio<arch>(vector(d))) == near{phi(wide) / (wide * wide), 6e-7});
  }
  CHECK(first(klens::detail::phi_ratio<arch>(vector(0.0f))) == near{0.5, 2e-7});
}

TEST_CASE("Jensen-Shannon terms of p = 1 and q = e^d") {
  struct known {
    float d;
    long double js;  // mpmath, 30 digits, at exactly this d where d is a float, within 1e-7 of it elsewhere
  };
  for (const known each :
       {known{0.5f, 0.040127944463866392607L}, known{-0.5f, 0.024338828628580799241L}, known{0.999f, 0.20574478568008850843L},
        known{1.001f, 0.20677742183943676707L}, known{-1.001f, 0.075993131252676599052L}, known{5, 48.780974269135827803L},
        known{40, 81578317026715379.127L}, known{-30, 0.3465735902785546542L}, known{1e-4f, 1.2500625015625260421e-9L},
        known{-1e-4f, 1.2499375015624739588e-9L}, known{1e-6f, 1.250000625000156249e-13L}}) {
    CAPTURE(each.d);
    const auto q = static_cast<float>(std::exp(static_cast<double>(each.d)));
    CHECK(first(klens::detail::js_terms<arch>(vector(1.0f), vector(q), vector(each.d))) == near{each.js, 1e-6});
  }
  CHECK(first(klens::detail::js_terms<arch>(vector(0.3f), vector(0.3f), vector(0.0f))) == 0);
  CHECK(first(klens::detail::js_terms<arch>(vector(1.0f), vector(0.0f), vector(-1e30f))) == near{0.3465735902799726547L, 1e-6});
}
