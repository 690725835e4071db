// Metrics of klens validate --explain, against plain loops in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/metric.hpp>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "explanatory_metrics.hpp"

namespace {

using floats = std::vector<float>;
constexpr float masked = -std::numeric_limits<float>::infinity();

std::vector<double> log_softmax(const floats& logits, double temperature) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float each : logits) sum += std::exp((each - top) / temperature);
  std::vector<double> result;
  for (const float each : logits) result.push_back((each - top) / temperature - std::log(sum));
  return result;
}

double plain(const std::string& name, const floats& x, const floats& y) {
  const double temperature = name == "kl_t0.5" ? 0.5 : name == "kl_t2" ? 2 : 1;
  const std::vector<double> p = log_softmax(x, temperature), q = log_softmax(y, temperature);
  const auto change = [&](std::size_t v) { return x[v] == y[v] ? 0 : static_cast<double>(y[v]) - x[v]; };
  double sum = 0, mean_under_p = 0, mean = 0, likely = 0;
  for (std::size_t v = 0; v < x.size(); ++v) {
    mean += change(v) / static_cast<double>(x.size());
    if (x[v] != masked) mean_under_p += std::exp(p[v]) * change(v);
    if (p[v] >= std::log(1e-4)) ++likely;
  }
  for (std::size_t v = 0; v < x.size(); ++v) {
    const double weight = std::exp(p[v]);
    if (name.starts_with("kl_t") && weight > 0) sum += weight * (p[v] - q[v]);
    if (name == "var_p" && weight > 0) sum += weight * std::pow(change(v) - mean_under_p, 2);
    if (name == "mse_centred") sum += std::pow(change(v) - mean, 2) / static_cast<double>(x.size());
    if (name == "mse_likely" && p[v] >= std::log(1e-4)) sum += change(v) * change(v) / likely;
    if (name == "mse_p") sum += std::pow(std::exp(q[v]) - weight, 2);
  }
  return sum;
}

double measured(const klens::any_metric& metric, const floats& x, const floats& y) {
  const klens::row_damage none;
  return metric(klens::position{x, y, std::nullopt, none}).value;
}

// So far a metric may be off. Probabilities and changes of logits are floats, off by a few times 2^-24 of themselves, so that a
// difference of probabilities is off by up to 1e-6 of the larger one: with d such differences, sum (d + e)^2 - d^2 is at most
// 2 sqrt(sum d^2 sum e^2) + sum e^2.
double tolerance(const std::string& name, double expected) {
  return name == "mse_p" ? 2 * std::sqrt(expected) * 1e-6 + 1e-12 : 1e-5 * expected;
}

}  // namespace

TEST_CASE("explanatory metrics: what they are called, at every awkward length, with and without masked tokens") {
  std::mt19937 random{7};
  for (const std::size_t size : {1, 2, 3, 15, 16, 17, 33, 1000})
    for (const float change : {1.0F, 0.01F})
      for (const bool mask : {false, true}) {
        std::normal_distribution<float> logit{0, 4}, added{0.3F * change, change};
        floats x, y;
        for (std::size_t v = 0; v < size; ++v) {
          x.push_back(logit(random));
          y.push_back(x.back() + added(random));
        }
        if (mask && size > 2) x[1] = y[1] = masked;
        for (const klens::any_metric& each : programs::explanatory_metrics()) {
          const double expected = plain(each.name, x, y);
          INFO(each.name << " of " << size << " changed by " << change << ", masked: " << mask);
          CHECK(std::abs(measured(each, x, y) - expected) <= tolerance(each.name, expected));
        }
      }
}

TEST_CASE("explanatory metrics: no change costs nothing, and a mask over what P may choose has no bound") {
  const floats x{1, 2, 3, masked}, y{1, masked, 3, masked};
  for (const klens::any_metric& each : programs::explanatory_metrics()) {
    INFO(each.name);
    CHECK(measured(each, x, x) == 0);
    if (each.name == "mse_p")
      CHECK(std::abs(measured(each, x, y) - plain(each.name, x, y)) < 1e-6);
    else
      CHECK(measured(each, x, y) == std::numeric_limits<double>::infinity());
  }
}
