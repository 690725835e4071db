#include "engine/elementwise.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "support/lengths.hpp"
#include "support/near.hpp"

namespace kernels = programs::kernels;

namespace {

template <class F>
std::vector<float> mapped(const std::vector<float>& from, F f) {
  std::vector<float> to(from.size());
  kernels::map_elements(std::span(to), f, std::span(from));
  return to;
}

std::vector<float> spaced(float first, float last, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = first + (last - first) * static_cast<float>(i) / static_cast<float>(count - 1);
  return values;
}

}  // namespace

TEST_CASE("exp2_of: within 1.1e-7 of 2^x, and far closer near 0") {
  const std::vector<float> x = spaced(-126.f, 127.f, 100'003), y = mapped(x, [](auto v) { return kernels::exp2_of(v); });
  for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(y[i] == near{std::exp2(static_cast<long double>(x[i])), 1.1e-7});
  CHECK(mapped({0.f, 1.f, -3.f, -126.f, 127.f}, [](auto v) { return kernels::exp2_of(v); }) ==
        std::vector{1.f, 2.f, 0.125f, 0x1p-126f, 0x1p127f});

  // A thousand steps of a slow decay: a bias of 1e-7 a step would add up to 1e-4. Two roundings a step are left.
  const float slow = -1.44e-3f;
  const double step = mapped({slow}, [](auto v) { return kernels::exp2_of(v); }).front();
  CHECK(std::pow(step, 1000) == near{std::exp2(1000.0L * static_cast<long double>(slow)), 6.1e-5});
}

TEST_CASE("exp2_of: what is too small becomes 2^-126, and a NaN stays one") {
  const std::vector<float> y = mapped({-127.f, -1e30f, -std::numeric_limits<float>::infinity(), std::nanf("")},
                                      [](auto v) { return kernels::exp2_of(v); });
  for (int i = 0; i < 3; ++i) CHECK(y[static_cast<std::size_t>(i)] == 0x1p-126f);
  CHECK(std::isnan(y[3]));
}

TEST_CASE("exp_of: within 1.2e-7 of e^x, far from 0 too") {
  const std::vector<float> x = spaced(-87.f, 88.f, 200'003), y = mapped(x, [](auto v) { return kernels::exp_of(v); });
  for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(y[i] == near{std::exp(static_cast<long double>(x[i])), 1.2e-7});
  const std::vector<float> edges = mapped({0.f, -0.f, -88.f, -std::numeric_limits<float>::infinity(), std::nanf("")},
                                          [](auto v) { return kernels::exp_of(v); });
  CHECK(edges[0] == 1);
  CHECK(edges[1] == 1);
  CHECK(edges[2] == mapped({-87.f}, [](auto v) { return kernels::exp_of(v); })[0]);
  CHECK(edges[3] == edges[2]);
  CHECK(std::isnan(edges[4]));
}

TEST_CASE("silu: x / (1 + e^-x) over the whole range") {
  std::vector<float> x = spaced(-110.f, 110.f, 50'001);
  for (const float wild : {0.f, -0.f, 1e30f, -1e30f, 3e38f, -3e38f, 1e-30f}) x.push_back(wild);
  const std::vector<float> y = mapped(x, [](auto v) { return kernels::silu(v); });
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = static_cast<long double>(x[i]) / (1 + std::exp(-static_cast<long double>(x[i])));
    REQUIRE(y[i] == near{exact, 2.5e-7, x[i] < -87 ? 2e-36 : 0});
  }
  CHECK(std::isnan(mapped({std::nanf("")}, [](auto v) { return kernels::silu(v); })[0]));
}

TEST_CASE("softplus: ln(1 + e^x), small values to full relative accuracy") {
  std::vector<float> x = spaced(-80.f, 100.f, 50'001);
  for (const float wild : {0.f, 1e30f, 3e38f}) x.push_back(wild);
  const std::vector<float> y = mapped(x, [](auto v) { return kernels::softplus(v); });
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = static_cast<long double>(x[i]);
    REQUIRE(y[i] == near{std::max(exact, 0.0L) + std::log1p(std::exp(-std::abs(exact))), 3e-7});
  }
  CHECK(std::isnan(mapped({std::nanf("")}, [](auto v) { return kernels::softplus(v); })[0]));
}

TEST_CASE("sigmoid, GELU in both forms, squared ReLU") {
  std::vector<float> x = spaced(-80.f, 80.f, 50'001);
  for (const float small : {0.f, 1e-6f, -1e-6f}) x.push_back(small);
  const std::vector<float> sigmoids = mapped(x, [](auto v) { return kernels::sigmoid(v); });
  const std::vector<float> exact_gelu = mapped(x, [](auto v) { return kernels::gelu(v); });
  const std::vector<float> tanh_gelu = mapped(x, [](auto v) { return kernels::gelu_tanh(v); });
  const std::vector<float> squares = mapped(x, [](auto v) { return kernels::squared_relu(v); });
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = static_cast<long double>(x[i]);
    // What |x| log2(e) loses without a fused product, as for softplus; a sigmoid's exponent is bounded by 87.
    const double of_exponent = 7.4e-8 * std::abs(static_cast<double>(x[i]));
    REQUIRE(sigmoids[i] == near{1 / (1 + std::exp(-exact)), 5e-7 + of_exponent});
    // x Phi(x) loses the small end of Phi to 1 + erf: an absolute error of |x| 2^-24
    REQUIRE(exact_gelu[i] ==
            near{exact * std::erfc(-exact / std::sqrt(2.0L)) / 2, 4e-7, 2e-7 * std::abs(static_cast<double>(x[i]))});
    const long double inner = std::sqrt(2 / 3.14159265358979323846L) * (exact + 0.044715L * exact * exact * exact);
    REQUIRE(tanh_gelu[i] == near{exact * (1 + std::tanh(inner)) / 2, 1e-6, 2e-6});
    REQUIRE(squares[i] == (x[i] > 0 ? x[i] * x[i] : 0.f));
  }
}

TEST_CASE("map_elements and sum_elements: every length, no element more") {
  for (const std::size_t length : awkward_lengths()) {
    INFO("length ", length);
    std::vector<float> a(length), b(length), out(length + 1, -7.f);
    std::iota(a.begin(), a.end(), 1.f);
    std::iota(b.begin(), b.end(), 100.f);
    kernels::map_elements(
        std::span(out).first(length), [](auto x, auto y) { return x + y + y; }, std::span(a), std::span(b));
    bool right = out[length] == -7.f;
    for (std::size_t i = 0; i < length; ++i) right = right && out[i] == a[i] + b[i] + b[i];
    CHECK(right);
    std::vector<float> ones(length, 1.f);
    CHECK(kernels::sum_elements(std::span<const float>(ones), [](auto x) { return x; }) == static_cast<float>(length));
    kernels::map_elements(
        std::span(a), [](auto x) { return x + x; }, std::span(a));  // in place
    CHECK((length == 0 || a[length - 1] == 2 * static_cast<float>(length)));
  }
}

TEST_CASE("exponentials: a softmax but for the division") {
  std::mt19937 random{7};
  std::normal_distribution<float> normal{0, 4};
  for (const std::size_t length : awkward_lengths()) {
    std::vector<float> x(length);
    for (float& each : x) each = normal(random);
    const std::vector<float> before = x;
    const float total = kernels::exponentials(std::span(x), 0.5f);
    const long double largest = *std::max_element(before.begin(), before.end());
    long double sum = 0;
    bool right = true;
    for (std::size_t i = 0; i < length; ++i) {
      const long double exact = std::exp(0.5L * (before[i] - largest));
      right = right && x[i] == near{exact, 0, 6e-7};
      sum += exact;
    }
    INFO("length ", length);
    CHECK(right);
    CHECK(total == near{sum, 1e-6 + 6e-8 * static_cast<double>(length) / 16});
  }
  std::vector<float> equal(37, -1e30f);
  CHECK(kernels::exponentials(std::span(equal), 1) == 37.f);
}

TEST_CASE("exponentials: large scores that lie close together") {
  // A score of 3000 is known to 1.2e-4 as a float, but its distance to the next one exactly.
  std::vector<float> x{2999.5f, 3000.f, 2999.9375f, 2998.25f, 2900.f}, before = x;
  const float total = kernels::exponentials(std::span(x), 0.7f);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = std::exp(0.7L * (static_cast<long double>(before[i]) - 3000));
    CHECK(x[i] == near{exact, 3e-7 + 2e-7 * static_cast<double>(3000 - before[i])});
    sum += static_cast<double>(exact);
  }
  CHECK(total == near{sum, 5e-7});
}
