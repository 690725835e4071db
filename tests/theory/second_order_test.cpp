// docs/theory.md, section 1: KL is half the variance of the logit error under P.
#include "logits.hpp"

#include <doctest/doctest.h>

#include <support/near.hpp>

using namespace theory;

TEST_CASE("theory 1.1: KL is the log of a mean, and an integral of variances") {
  klens::detail::random_stream random{11};
  for (const double scale : {0.01, 0.3, 2.0}) {
    const row x = normal_row(random, 50, 2), y = moved(x, normal_row(random, 50, 1), scale);
    const list p = softmax(x), delta = difference(x, y);
    const double mean = dot(p, delta);
    double log_mean = 0;
    for (std::size_t v = 0; v < p.size(); ++v) log_mean += p[v] * std::exp(delta[v] - mean);
    log_mean = std::log(log_mean);
    // Simpson's rule on (1 - s) Var_s(delta) with P_s = softmax(x + s delta)
    double integral = 0;
    constexpr int steps = 400;
    for (int i = 0; i <= steps; ++i) {
      const double s = static_cast<double>(i) / steps;
      list between(p.size());
      double total = 0;
      for (std::size_t v = 0; v < p.size(); ++v) total += between[v] = p[v] * std::exp(s * delta[v]);
      for (double& each : between) each /= total;
      integral += (i == 0 || i == steps ? 1 : i % 2 ? 4 : 2) * (1 - s) * variance(between, delta) / (3.0 * steps);
    }
    CHECK(std::abs(integral / kl(x, y) - 1) < 1e-5);
    CHECK(std::abs(log_mean / kl(x, y) - 1) < 1e-5 + 1e-16 / kl(x, y));
  }
}

TEST_CASE("theory 1.2: bounds by half the variance, made-up logits") {
  klens::detail::random_stream random{12};
  for (const std::size_t size : {2, 3, 50, 2048})
    for (const double scale : {1e-3, 0.03, 0.3, 1.0, 4.0}) {
      const row x = normal_row(random, size, 3), y = moved(x, normal_row(random, size, 1), scale);
      const list delta = difference(x, y);
      const double half = variance(softmax(x), delta) / 2, r = range(delta);
      CAPTURE(size);
      CAPTURE(scale);
      CHECK(kl(x, y) >= half * growth(-r) * (1 - 1e-5));
      CHECK(kl(x, y) <= half * growth(r) * (1 + 1e-5));
    }
}

TEST_CASE("theory 1.2: bounds by half the variance, real logits") {
  const rows reference = real_logits("reference");
  for (const char* name : {"int8_a", "int4_a", "int4_b", "int4_ab", "int2_a"}) {
    const rows observed = real_logits(name);
    for (std::size_t t = 0; t < reference.size(); ++t) {
      const list delta = difference(reference[t], observed[t]);
      const double half = variance(softmax(reference[t]), delta) / 2, r = range(delta), found = kl(reference[t], observed[t]);
      CHECK(found >= half * growth(-r) * (1 - 1e-5));
      CHECK(found <= half * growth(r) * (1 + 1e-5));
      // The bound is far from tight: the third moment under P is much smaller than range times variance.
      if (std::string{name} == "int8_a") CHECK(std::abs(half / found - 1) < 0.005);
      if (std::string{name} == "int4_a") CHECK(std::abs(half / found - 1) < 0.04);
    }
  }
}

TEST_CASE("theory 1.2: the remainder is of third order") {
  klens::detail::random_stream random{13};
  const row x = normal_row(random, 200, 2), direction = normal_row(random, 200, 1);
  const auto remainder = [&](double scale) {
    const row y = moved(x, direction, scale);
    return std::abs(kl(x, y) - variance(softmax(x), difference(x, y)) / 2);
  };
  const double order = std::log2(remainder(0.1) / remainder(0.05));
  CHECK(order > 2.8);
  CHECK(order < 3.2);
}

TEST_CASE("theory 1.3: reverse KL agrees to second order, JS is a quarter") {
  const rows reference = real_logits("reference"), observed = real_logits("int8_a");
  for (std::size_t t = 0; t < reference.size(); ++t) {
    const auto found = damage(reference[t], observed[t]);
    CHECK(std::abs(found.reverse_kl / found.kl - 1) < 0.01);
    CHECK(std::abs(4 * found.js / found.kl - 1) < 0.01);
  }
  // reverse KL = integral of s Var_s: between V times h(-R) and h(R), h(r) = (1 + (r - 1) e^r) / r^2
  const rows coarse = real_logits("int2_a");
  const auto h = [](double r) { return (1 + (r - 1) * std::exp(r)) / (r * r); };
  for (std::size_t t = 0; t < reference.size(); ++t) {
    const list delta = difference(reference[t], coarse[t]);
    const double v = variance(softmax(reference[t]), delta), r = range(delta),
                 found = damage(reference[t], coarse[t]).reverse_kl;
    CHECK(found >= v * h(-r));
    CHECK(found <= v * h(r));
  }
}

TEST_CASE("theory 1.4: a shift is invisible, an error counts at most by its token's probability, and by a quarter") {
  klens::detail::random_stream random{14};
  const row x = normal_row(random, 64, 2), ones(64, 1.0f);
  CHECK(kl(x, moved(x, ones, 8)) < 1e-12);
  const list p = softmax(x);
  for (int i = 0; i < 100; ++i) {
    const row y = moved(x, normal_row(random, 64, 1), 0.1);
    const list delta = difference(x, y);
    list squares(delta.size());
    std::ranges::transform(delta, squares.begin(), [](double d) { return d * d; });
    const double most = growth(range(delta)) / 2 * (1 + 1e-5);  // of what the variance allows, 1.2
    CHECK(kl(x, y) <= most * dot(p, squares));
    CHECK(kl(x, y) <= most * dot(delta, delta) / 2);
  }
  // the quarter is attained: two tokens at one half, pulled apart; 1 - V/2 + ... of cosh: the rest is of fourth order
  const row even{0, 0}, apart{0.01f, -0.01f};
  CHECK(kl(even, apart) == near{0.01 * 0.01 / 2, 1e-4});
}
