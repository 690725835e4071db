#include "engine/causal_conv.hpp"

#include <doctest/doctest.h>

#include <cmath>

using klens::matrix;

namespace {
const auto plain = [](auto v) { return v; };
}

TEST_CASE("causal_conv: by hand") {
  matrix<float> x(4, 1), taps(3, 1), out(4, 1);
  x << 1, 2, 3, 4;
  taps << 100, 10, 1;  // the last tap is the position's own
  programs::kernels::causal_conv(x, taps, {}, out, plain);
  CHECK(out == (matrix<float>(4, 1) << 1, 12, 123, 234).finished());
  const matrix<float> bias = matrix<float>::Constant(1, 1, 0.5f);
  programs::kernels::causal_conv(x, taps, klens::row(bias, 0), out, [](auto v) { return v + v; });
  CHECK(out(3, 0) == 469.f);
}

TEST_CASE("causal_conv: any number of channels, taps and positions, also in parts of wider rows") {
  for (const Eigen::Index channels : {1, 3, 8, 16, 17, 40})
    for (const Eigen::Index count : {1, 2, 4, 7})
      for (const Eigen::Index length : {1, 2, 3, 9}) {
        INFO(channels, " channels, ", count, " taps, ", length, " positions");
        const matrix<float> wide = matrix<float>::Random(length, channels + 5), taps = matrix<float>::Random(count, channels);
        const matrix<float> bias = matrix<float>::Random(1, channels);
        matrix<float> out = matrix<float>::Constant(length, channels + 1, -7.f);
        programs::kernels::causal_conv(wide.rightCols(channels), taps, klens::row(bias, 0), out.leftCols(channels), plain);
        double worst = 0;
        for (Eigen::Index t = 0; t < length; ++t)
          for (Eigen::Index d = 0; d < channels; ++d) {
            double sum = bias(0, d);
            for (Eigen::Index k = 0; k < count; ++k)
              if (t - count + 1 + k >= 0) sum += static_cast<double>(taps(k, d)) * wide(t - count + 1 + k, 5 + d);
            worst = std::max(worst, std::abs(sum - out(t, d)));
          }
        CHECK(worst <= 1e-7 * static_cast<double>(8 * count));
        CHECK((out.col(channels).array() == -7.f).all());
      }
}
