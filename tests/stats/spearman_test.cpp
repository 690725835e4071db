#include <klens/stats/rank_correlation.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <vector>

namespace {
constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double missing = std::numeric_limits<double>::quiet_NaN();
double rho(const std::vector<double>& a, const std::vector<double>& b) { return klens::spearman_rho(a, b).value; }
}  // namespace

TEST_CASE("spearman: counted by hand") {
  CHECK(rho({1, 2, 3, 4, 5}, {10, 20, 30, 40, 50}) == 1);
  CHECK(rho({1, 2, 3, 4, 5}, {5, 4, 3, 2, 1}) == -1);
  // without ties 1 - 6 sum d^2 / (n (n^2 - 1)): one swap of neighbours among five, d^2 sums to 2; halves are exact in binary
  CHECK(rho({1, 2, 3, 4, 5}, {1, 3, 2, 4, 5}) == 1 - 6 * 2.0 / 120);
  // ranks 1.5 1.5 3 against 1 2 3: covariance 1.5, variances 1.5 and 2
  CHECK(rho({7, 7, 9}, {1, 2, 3}) == 1.5 / std::sqrt(1.5 * 2));
}

TEST_CASE("spearman: only the order counts") {
  const std::vector<double> a{3, 1, 4, 1, 5, 9, 2, 6}, b{2, 7, 1, 8, 2, 8, 1, 8};
  std::vector<double> stretched = a;
  for (double& each : stretched) each = std::exp(each);
  CHECK(rho(a, b) == rho(stretched, b));
  CHECK(rho(a, b) == rho(b, a));
  CHECK(rho({-inf, 0, inf}, {1, 2, 3}) == 1);
  CHECK(rho({inf, inf, 0}, {2, 2, 1}) == 1);
}

TEST_CASE("spearman: missing scores, nothing to compare, different lengths") {
  const auto found = klens::spearman_rho(std::vector<double>{1, missing, 2, 3}, std::vector<double>{1, 2, 3, 4});
  CHECK(found.value == 1);
  CHECK(found.used == 3);
  CHECK(found.left_out == 1);
  CHECK(std::isnan(rho({}, {})));
  CHECK(std::isnan(rho({1}, {1})));
  CHECK(std::isnan(rho({1, 1, 1}, {1, 2, 3})));
  CHECK_THROWS_AS((void)rho({1}, {1, 2}), klens::shape_error);
}
