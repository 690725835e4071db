#include <klens/detail/exp.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <support/near.hpp>

namespace {

float lean_exp(float u) {
  using arch = klens::detail::best_arch;
  float all[klens::detail::lanes<float>];
  klens::detail::lean_exp<arch>(klens::detail::batch<float>(u)).store_unaligned(all);
  return all[0];
}

}  // namespace

TEST_CASE("lean_exp is as close as it says") {
  CHECK(lean_exp(0) == 1);
  for (float u = -87; u <= 88; u += 0.0137f) {
    CAPTURE(u);
    CHECK(lean_exp(u) == near{std::exp(static_cast<long double>(u)), 2e-7 + std::abs(static_cast<double>(u)) * 0x1p-23});
  }
  for (float u = 1e-30f; u < 1; u *= 1.7f) {
    CHECK(lean_exp(u) == near{std::exp(static_cast<long double>(u)), 2e-7 + 0x1p-23});
    CHECK(lean_exp(-u) == near{std::exp(-static_cast<long double>(u)), 2e-7 + 0x1p-23});
  }
}

TEST_CASE("lean_exp stays at its floor below it") {
  const float lowest = lean_exp(-87);
  for (const float u : {-87.5f, -1e3f, -1e30f, -std::numeric_limits<float>::infinity()}) CHECK(lean_exp(u) == lowest);
  CHECK(lowest < 2e-38f);
}
