#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <klens/detail/simd.hpp>
#include <span>

namespace klens::detail {

/// 2^x to 1.1e-7 relative, and to far less near x = 0 (a recurrence multiplies thousands of factors close to 1). Below -126 the
/// result is 2^-126 where it should be smaller still; above 127 it is wrong: the callers' exponents are at most 0.
template <class Batch>
[[nodiscard]] inline Batch exp2_small(const Batch& exponent) noexcept {
  const Batch x = xsimd::max(Batch(-126.f), exponent);  // in this order a NaN stays a NaN
  const Batch shifter(12582912.f);                      // 1.5 * 2^23: the sum's low bits are round(x)
  const Batch shifted = x + shifter;
  const Batch f = x - (shifted - shifter);
  Batch p(0.0013264727f);
  p = xsimd::fma(p, f, Batch(0.009671513f));
  p = xsimd::fma(p, f, Batch(0.055507336f));
  p = xsimd::fma(p, f, Batch(0.24022242f));
  p = xsimd::fma(p, f, Batch(0.693147f));
  p = xsimd::fma(p, f, Batch(1.f));
  return from_bits(bits_of(p) + (bits_of(shifted) << 23));
}

inline constexpr float log2_e = 1.44269504f;

template <class Batch>
[[nodiscard]] inline Batch sigmoid(const Batch& x) noexcept {
  return Batch(1.f) / (Batch(1.f) + xsimd::exp(-x));
}

template <class Batch>
[[nodiscard]] inline Batch silu(const Batch& x) noexcept {
  return x / (Batch(1.f) + xsimd::exp(-x));
}

/// ln(1 + e^x), without overflow.
template <class Batch>
[[nodiscard]] inline Batch softplus(const Batch& x) noexcept {
  return xsimd::max(Batch(0.f), x) + xsimd::log1p(xsimd::exp(-xsimd::abs(x)));
}

/// to[i] = f(from[i]...) for spans of equal length; f takes and gives batches, also for the last few elements. `to` may be one
/// of `from`.
template <class Arch = best_arch, class F, class... From>
void map_elements(std::span<float> to, F&& f, const From&... from) {
  constexpr std::size_t width = lanes<float, Arch>;
  assert(((from.size() == to.size()) && ...));
  for (std::size_t i = 0; i < to.size(); i += width) {
    const std::size_t count = std::min(width, to.size() - i);
    store_first<Arch>(f(load_first<Arch>(from.data() + i, count)...), to.data() + i, count);
  }
}

/// Sum of f(from[i]) in float lanes; f(0) must be 0.
template <class Arch = best_arch, class F>
[[nodiscard]] float sum_elements(std::span<const float> from, F&& f) {
  constexpr std::size_t width = lanes<float, Arch>;
  batch<float, Arch> total(0.f);
  for (std::size_t i = 0; i < from.size(); i += width)
    total += f(load_first<Arch>(from.data() + i, std::min(width, from.size() - i)));
  return sum_of(total);
}

}  // namespace klens::detail
