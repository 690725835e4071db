#pragma once

#include <cassert>
#include <cstddef>
#include <klens/detail/elementwise.hpp>
#include <klens/detail/simd.hpp>
#include <klens/matrix.hpp>
#include <span>

namespace klens::detail {

/// A convolution along time, each channel on its own, that sees no later position; then `activation`:
///   out(t, d) = activation(bias(d) + sum_k taps(k, d) x(t - K + 1 + k, d)), x = 0 before the start
/// Shapes     x, out [length x channels], not the same memory; taps [K x channels]; bias [channels] or empty.
template <class Arch = best_arch, class Activation>
void causal_conv(const const_matrix_ref<float>& x, const const_matrix_ref<float>& taps, std::span<const float> bias,
                 matrix_ref<float> out, const Activation& activation) {
  assert(x.data() != out.data());
  const Eigen::Index length = x.rows(), width = taps.rows();
  for (Eigen::Index t = 0; t < length; ++t) {
    const std::span<float> to = row(out, t);
    if (bias.empty())
      std::fill(to.begin(), to.end(), 0.f);
    else
      std::copy(bias.begin(), bias.end(), to.begin());
    for (Eigen::Index k = std::max<Eigen::Index>(0, width - 1 - t); k < width; ++k)
      map_elements<Arch>(
          to, [](auto sum, auto tap, auto in) { return xsimd::fma(tap, in, sum); }, to, row(taps, k),
          row(x, t - width + 1 + k));
    map_elements<Arch>(to, activation, to);
  }
}

}  // namespace klens::detail
