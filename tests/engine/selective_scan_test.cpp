#include "engine/selective_scan.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "support/near.hpp"

namespace kernels = programs::kernels;
using klens::matrix;

namespace {

matrix<float> random_matrix(Eigen::Index rows, Eigen::Index columns, unsigned seed, float low = -1, float high = 1) {
  std::mt19937 random{seed};
  std::uniform_real_distribution<float> uniform{low, high};
  matrix<float> made(rows, columns);
  for (Eigen::Index i = 0; i < made.size(); ++i) made.data()[i] = uniform(random);
  return made;
}

/// The recurrence in double, one channel after the other; decay(t, d, n) and step(t, d) as the caller says. Beside each output the
/// sum of its terms' magnitudes, which rounding goes with.
template <class Decay, class Step>
std::pair<matrix<double>, matrix<double>> plain_scan(const matrix<float>& x, const matrix<float>& b, const matrix<float>& c,
                                                     const Decay& decay, const Step& step, const auto& skip) {
  matrix<double> out(x.rows(), x.cols()), size(x.rows(), x.cols());
  for (Eigen::Index d = 0; d < x.cols(); ++d) {
    std::vector<double> h(static_cast<std::size_t>(b.cols())), magnitude(h.size());
    for (Eigen::Index t = 0; t < x.rows(); ++t) {
      double sum = static_cast<double>(skip(d)) * x(t, d), total = std::abs(sum);
      for (Eigen::Index n = 0; n < b.cols(); ++n) {
        const auto i = static_cast<std::size_t>(n);
        const double entering = step(t, d) * b(t, n) * x(t, d);
        h[i] = decay(t, d, n) * h[i] + entering;
        magnitude[i] = decay(t, d, n) * magnitude[i] + std::abs(entering);
        sum += h[i] * c(t, n);
        total += magnitude[i] * std::abs(c(t, n));
      }
      out(t, d) = sum;
      size(t, d) = total;
    }
  }
  return {out, size};
}

void check_close(const matrix<float>& found, const matrix<double>& expected, const matrix<double>& size, double bound) {
  double worst = 0;
  for (Eigen::Index t = 0; t < found.rows(); ++t)
    for (Eigen::Index d = 0; d < found.cols(); ++d)
      worst = std::max(worst, std::abs(found(t, d) - expected(t, d)) / size(t, d));
  CHECK(worst < bound);
}

}  // namespace

TEST_CASE("selective_scan: by hand") {
  // One channel, one state, decay 1/2 at step 1: h = 1, 2.5, 0.25 (step 2, decay 1/4, no input); out = c h + skip x.
  matrix<float> step(3, 1), x(3, 1), rates(1, 1), b(3, 1), c(3, 1), out(3, 1);
  step << 1, 1, 2;
  x << 1, 2, 0;
  rates << -1;  // log2 of the decay at step 1
  b << 1, 1, 1;
  c << 1, 10, 100;
  const std::vector<float> skip{3};
  kernels::selective_scan(step, x, rates, b, c, skip, out);
  CHECK(out(0, 0) == 1.f + 3.f);
  CHECK(out(1, 0) == 25.f + 6.f);
  CHECK(out(2, 0) == 62.5f);
}

TEST_CASE("selective_scan: any number of channels, states and positions, as the plain recurrence") {
  for (const Eigen::Index channels : {1, 3, 8, 15, 16, 17, 33, 70})
    for (const Eigen::Index states : {1, 2, 4, 5, 7, 8, 9, 16, 19}) {
      const Eigen::Index length = 1 + (channels * states) % 90;
      INFO(channels, " channels, ", states, " states, ", length, " positions");
      const auto seed = static_cast<unsigned>(100 * channels + states);
      const matrix<float> step = random_matrix(length, channels, seed, 0.f, 1.5f),
                          x = random_matrix(length, channels, seed + 1);
      const matrix<float> rates = random_matrix(states, channels, seed + 2, -3.f, -0.01f),
                          skip = random_matrix(1, channels, seed + 3);
      const matrix<float> b = random_matrix(length, states, seed + 4), c = random_matrix(length, states, seed + 5);
      matrix<float> out(length, channels);
      kernels::selective_scan(step, x, rates, b, c, klens::row(skip, 0), out);
      const auto [expected, size] = plain_scan(
          x, b, c, [&](auto t, auto d, auto n) { return std::exp2(static_cast<double>(step(t, d)) * rates(n, d)); },
          [&](auto t, auto d) { return static_cast<double>(step(t, d)); }, [&](auto d) { return skip(0, d); });
      check_close(out, expected, size, 2e-6);

      // In place, and with rows that lie further apart than their length.
      matrix<float> wide(length, 2 * channels + 2 * states);
      wide << x, step, b, c;
      kernels::selective_scan(wide.middleCols(channels, channels), wide.leftCols(channels), rates,
                              wide.middleCols(2 * channels, states), wide.rightCols(states), klens::row(skip, 0),
                              wide.leftCols(channels));
      CHECK(wide.leftCols(channels) == out);
    }
}

TEST_CASE("state_space_scan: heads of any width, also several in one vector") {
  for (const auto& shape :
       std::vector<std::pair<Eigen::Index, Eigen::Index>>{{1, 1}, {1, 16}, {2, 3}, {3, 5}, {5, 8}, {7, 1}, {2, 20}, {3, 32}})
    for (const Eigen::Index states : {1, 4, 7, 16, 21}) {
      const Eigen::Index heads = shape.first, head_width = shape.second;
      const Eigen::Index length = 1 + (heads * head_width * states) % 70, channels = heads * head_width;
      INFO(heads, " heads of ", head_width, ", ", states, " states, ", length, " positions");
      const auto seed = static_cast<unsigned>(1000 * heads + 10 * head_width + states);
      const matrix<float> decay = random_matrix(length, heads, seed, 0.f, 1.f),
                          step = random_matrix(length, heads, seed + 1, 0.f, 2.f);
      const matrix<float> x = random_matrix(length, channels, seed + 2), skip = random_matrix(1, heads, seed + 3);
      const matrix<float> b = random_matrix(length, states, seed + 4), c = random_matrix(length, states, seed + 5);
      matrix<float> out(length, channels);
      kernels::state_space_scan(decay, step, x, b, c, klens::row(skip, 0), out);
      const auto [expected, size] = plain_scan(
          x, b, c, [&](auto t, auto d, auto) { return static_cast<double>(decay(t, d / head_width)); },
          [&](auto t, auto d) { return static_cast<double>(step(t, d / head_width)); },
          [&](auto d) { return skip(0, d / head_width); });
      check_close(out, expected, size, 2e-6);
    }
}

TEST_CASE("scans: a NaN among the steps or inputs reaches the output") {
  const matrix<float> ones = matrix<float>::Ones(4, 3);
  const std::vector<float> skip(3, 1.f);
  for (const bool in_step : {true, false}) {
    matrix<float> step = ones, x = ones, out(4, 3);
    (in_step ? step : x)(1, 2) = std::nanf("");
    kernels::selective_scan(step, x, -matrix<float>::Ones(2, 3), ones.leftCols(2), ones.leftCols(2), skip, out);
    CHECK(std::isfinite(out(0, 2)));
    CHECK(std::isnan(out(1, 2)));
    CHECK(std::isfinite(out(3, 1)));
  }
}
