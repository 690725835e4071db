#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <klens/matrix.hpp>
#include <span>

#include "elementwise.hpp"

namespace programs::kernels {

/// A convolution along time, each channel on its own, that sees no later position; then `activation`:
///   out(t, d) = activation(bias(d) + sum_k taps(k, d) x(t - K + 1 + k, d)), x = 0 before the start
/// Shapes     x, out [length x channels], not the same memory; taps [K x channels]; bias [channels] or empty.
template <class Arch = best_arch, class Activation>
void causal_conv(const klens::const_matrix_ref<float>& x, const klens::const_matrix_ref<float>& taps,
                 std::span<const float> bias, klens::matrix_ref<float> out, const Activation& activation) {
  using wide = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  assert(x.data() != out.data());
  const Eigen::Index count = taps.rows();
  const auto channels = static_cast<std::size_t>(x.cols());
  for (Eigen::Index t = 0; t < x.rows(); ++t) {
    const Eigen::Index first = std::max<Eigen::Index>(0, count - 1 - t);  // the tap of position 0, or all
    const float *const tap = taps.data() + first * taps.outerStride(), *const in =
                                                                           x.data() + (t - count + 1 + first) * x.outerStride();
    float* const to = out.data() + t * out.outerStride();
    const auto at = [&](std::size_t channel, const auto& load) {
      wide sum = bias.empty() ? wide(0.f) : load(bias.data() + channel);
      for (Eigen::Index k = 0; k < count - first; ++k)
        sum = xsimd::fma(load(tap + k * taps.outerStride() + channel), load(in + k * x.outerStride() + channel), sum);
      return activation(sum);
    };
    std::size_t channel = 0;
    for (; channel + width <= channels; channel += width)
      at(channel, [](const float* from) { return wide::load_unaligned(from); }).store_unaligned(to + channel);
    if (const std::size_t rest = channels - channel; rest > 0)
      store_first<Arch>(at(channel, [rest](const float* from) { return load_first<Arch>(from, rest); }), to + channel, rest);
  }
}

}  // namespace programs::kernels
