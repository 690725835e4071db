#include <klens/metric/rows.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

TEST_CASE("rows: two tokens by hand") {
  const std::vector<float> reference{1.5f, 0.5f}, observed{1.5f, 0.0f};
  const double p = 1 / (1 + std::exp(-1.0)), q = 1 / (1 + std::exp(-1.5));
  const double kl = p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q));
  const double reverse = q * std::log(q / p) + (1 - q) * std::log((1 - q) / (1 - p));
  const double m = (p + q) / 2;
  const double js = (p * std::log(p / m) + (1 - p) * std::log((1 - p) / (1 - m)) + q * std::log(q / m) +
                     (1 - q) * std::log((1 - q) / (1 - m))) /
                    2;
  CHECK(std::abs(klens::log_sum_exp(reference) - std::log(std::exp(1.5) + std::exp(0.5))) < 1e-7);
  CHECK(std::abs(klens::kl_divergence(reference, observed) - kl) < 1e-6 * kl);
  CHECK(std::abs(klens::reverse_kl_divergence(reference, observed) - reverse) < 1e-6 * reverse);
  CHECK(std::abs(klens::js_divergence(reference, observed) - js) < 1e-6 * js);
  CHECK(klens::mean_squared_error(reference, observed) == 0.125);
  CHECK(std::abs(klens::sqnr_db(reference, observed) - 10) < 1e-12);
  CHECK(klens::same_top(reference, observed));
  CHECK(!klens::same_top(reference, std::vector<float>{0, 1}));
  CHECK(std::abs(klens::cross_entropy_change(reference, observed, 1) - (std::log(1 - p) - std::log(1 - q))) < 1e-6);
}

TEST_CASE("rows: limits and refusals") {
  const std::vector<float> row{1, 2, 3}, shorter{1, 2};
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(klens::kl_divergence(row, row) == 0);
  CHECK(std::isinf(klens::sqnr_db(row, row)));
  CHECK(klens::kl_divergence(row, std::vector<float>{1, 2, -infinity}) == std::numeric_limits<double>::infinity());
  CHECK_THROWS_AS((void)klens::kl_divergence(row, shorter), klens::shape_error);
  CHECK_THROWS_AS((void)klens::log_sum_exp(std::vector<float>{}), klens::shape_error);
  CHECK_THROWS_AS((void)klens::log_sum_exp(std::vector<float>{0, infinity}), klens::numeric_error);
  CHECK_THROWS_AS((void)klens::js_divergence(row, std::vector<float>{0, 1, std::nanf("")}), klens::numeric_error);
  CHECK_THROWS_AS((void)klens::cross_entropy_change(row, row, 3), klens::argument_error);
}
