#include <klens/stats/shrunken_variance.hpp>

#include <doctest/doctest.h>

#include <numbers>
#include <vector>

using klens::shrink_variances;

TEST_CASE("shrunken variance: digamma and trigamma at known places") {
  const double pi = std::numbers::pi, euler = 0.57721566490153286;
  CHECK(std::abs(klens::detail::digamma(1) + euler) < 1e-12);
  CHECK(std::abs(klens::detail::digamma(0.5) + euler + 2 * std::log(2.0)) < 1e-12);
  CHECK(std::abs(klens::detail::digamma(20.5) - klens::detail::digamma(19.5) - 1 / 19.5) < 1e-12);
  CHECK(std::abs(klens::detail::trigamma(1) - pi * pi / 6) < 1e-12);
  CHECK(std::abs(klens::detail::trigamma(0.5) - pi * pi / 2) < 1e-12);
  for (const double x : {1e-3, 0.1, 0.5, 1.0, 3.7, 100.0, 1e6})
    CHECK(std::abs(klens::detail::inverse_trigamma(klens::detail::trigamma(x)) / x - 1) < 1e-9);
}

TEST_CASE("shrunken variance: the prior is found again") {
  // Quantiles, evenly spread, of s^2 = prior * F(2, 4) are prior * 2 (1 / sqrt(1 - p) - 1): variances with two degrees of
  // freedom of their own around an inverse chi-square with four.
  std::vector<double> variances;
  constexpr int count = 20000;
  for (int i = 0; i < count; ++i) variances.push_back(7 * 2 * (1 / std::sqrt(1 - (i + 0.5) / count) - 1));
  const auto found = shrink_variances(variances, 2);
  CHECK(std::abs(found.prior_dof - 4) < 0.05);
  CHECK(std::abs(found.prior / 7 - 1) < 0.01);
  CHECK(found.dof == found.prior_dof + 2);
  CHECK(std::abs(found(1) - (found.prior_dof * found.prior + 2 * 1) / (found.prior_dof + 2)) < 1e-12);
}

TEST_CASE("shrunken variance: equal variances are pooled, few are left alone") {
  const auto pooled = shrink_variances(std::vector<double>{2, 2, 2, 2}, 3);
  CHECK(std::isinf(pooled.prior_dof));
  CHECK(pooled(5) == pooled.prior);
  CHECK(pooled.dof == 12);  // not more than four variances of three degrees of freedom hold
  const auto alone = shrink_variances(std::vector<double>{2, 3, 0}, 3);
  CHECK(alone.dof == 3);
  CHECK(alone(2.5) == 2.5);
}
