#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <span>

#include "lanes.hpp"

namespace programs::kernels {

inline constexpr float log2_e = 1.44269504f;

/// 2^x to 1.1e-7 relative, roundings included, and to far less near x = 0: a recurrence multiplies thousands of factors close to 1. Below -126 the
/// result is 2^-126 where it should be smaller still. x must be at most 127; a NaN stays one.
template <class Batch>
[[nodiscard]] inline Batch exp2_of(const Batch& exponent) noexcept {
  const Batch x = at_least(-126.f, exponent);
  const Batch shifter(12582912.f);  // 1.5 * 2^23: the low bits of the sum are round(x)
  const Batch shifted = x + shifter;
  const Batch f = x - (shifted - shifter);
  Batch p(1.5353362e-4f);
  p = xsimd::fma(p, f, Batch(1.3398875e-3f));
  p = xsimd::fma(p, f, Batch(9.6184369e-3f));
  p = xsimd::fma(p, f, Batch(5.5503324e-2f));
  p = xsimd::fma(p, f, Batch(0.24022648f));
  p = xsimd::fma(p, f, Batch(0.69314718f));
  p = xsimd::fma(p, f, Batch(1.f));
  return from_bits(bits_of(p) + (bits_of(shifted) << 23));
}

/// e^x to 1.2e-7 relative; below -87 it stays at e^-87. x must be at most 88; a NaN stays one.
/// Method     2^n e^r with n the nearest integer to x log2(e); n ln(2) is taken from x in two parts, so that r is exact.
/// Source     the polynomial for e^r: S. Moshier's Cephes library, expf.
template <class Batch>
[[nodiscard]] inline Batch exp_of(const Batch& exponent) noexcept {
  const Batch x = at_least(-87.f, exponent);
  const Batch shifter(12582912.f);
  const Batch shifted = xsimd::fma(x, Batch(log2_e), shifter), n = shifted - shifter;
  const Batch r = xsimd::fma(n, Batch(2.12194440e-4f), xsimd::fma(n, Batch(-0.693359375f), x));
  Batch p(1.9875691500e-4f);
  p = xsimd::fma(p, r, Batch(1.3981999507e-3f));
  p = xsimd::fma(p, r, Batch(8.3334519073e-3f));
  p = xsimd::fma(p, r, Batch(4.1665795894e-2f));
  p = xsimd::fma(p, r, Batch(1.6666665459e-1f));
  p = xsimd::fma(p, r, Batch(5.0000001201e-1f));
  p = xsimd::fma(p, r * r, r) + Batch(1.f);
  return from_bits(bits_of(p) + (bits_of(shifted) << 23));
}

/// x / (1 + e^-x), to 2.5e-7 relative down to x = -87, where it is below 2e-36.
template <class Batch>
[[nodiscard]] inline Batch silu(const Batch& x) noexcept {
  const Batch bounded = at_least(-87.f, x);
  return bounded / (Batch(1.f) + exp_of(-bounded));
}

/// 1 / (1 + e^-x), to 2.5e-7 relative down to x = -87.
template <class Batch>
[[nodiscard]] inline Batch sigmoid(const Batch& x) noexcept {
  return Batch(1.f) / (Batch(1.f) + exp_of(-at_least(-87.f, x)));
}

/// x Phi(x), the normal distribution's Phi in its tanh approximation: x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).
template <class Batch>
[[nodiscard]] inline Batch gelu_tanh(const Batch& x) noexcept {
  return x * sigmoid(x * xsimd::fma(x * x, Batch(0.07135481627f), Batch(1.595769122f)));
}

/// x Phi(x).
template <class Batch>
[[nodiscard]] inline Batch gelu(const Batch& x) noexcept {
  return x * (Batch(0.5f) + Batch(0.5f) * xsimd::erf(x * Batch(0.7071067812f)));
}

/// max(x, 0)^2
template <class Batch>
[[nodiscard]] inline Batch squared_relu(const Batch& x) noexcept {
  const Batch positive = xsimd::max(Batch(0.f), x);
  return positive * positive;
}

/// ln(1 + e^x) to 1e-6 relative for x > -80, without overflow: ln(1 + e) = 2 atanh(e / (2 + e)).
template <class Batch>
[[nodiscard]] inline Batch softplus(const Batch& x) noexcept {
  const Batch e = exp_of(-xsimd::abs(x));
  const Batch s = e / (e + Batch(2.f)), z = s * s;
  Batch p(0.14089167f);
  p = xsimd::fma(p, z, Batch(0.139803f));
  p = xsimd::fma(p, z, Batch(0.20012455f));
  p = xsimd::fma(p, z, Batch(0.33333158f));
  p = xsimd::fma(p, z, Batch(1.f));
  return xsimd::fma(p, s + s, xsimd::max(Batch(0.f), x));
}

/// to[i] = f(from[i]...) for spans of equal length; f takes and gives batches, also for the last few elements. `to` may be one
/// of `from`.
template <class Arch = best_arch, class F, class... From>
void map_elements(std::span<float> to, F&& f, const From&... from) {
  constexpr std::size_t width = lanes<float, Arch>;
  assert(((from.size() == to.size()) && ...));
  std::size_t i = 0;
  for (; i + width <= to.size(); i += width)
    f(batch<float, Arch>::load_unaligned(from.data() + i)...).store_unaligned(to.data() + i);
  if (const std::size_t rest = to.size() - i; rest > 0)
    store_first<Arch>(f(load_first<Arch>(from.data() + i, rest)...), to.data() + i, rest);
}

/// Sum of f(from[i]) in float lanes; f(0) must be 0.
template <class Arch = best_arch, class F>
[[nodiscard]] float sum_elements(std::span<const float> from, F&& f) {
  constexpr std::size_t width = lanes<float, Arch>;
  batch<float, Arch> total(0.f);
  std::size_t i = 0;
  for (; i + width <= from.size(); i += width) total += f(batch<float, Arch>::load_unaligned(from.data() + i));
  if (i < from.size()) total += f(load_first<Arch>(from.data() + i, from.size() - i));
  return sum_of(total);
}

/// x[i] = e^(scale (x[i] - max x)), in place; gives their sum. scale > 0, at least one element. A softmax but for the division.
template <class Arch = best_arch>
[[nodiscard]] float exponentials(std::span<float> x, float scale) {
  using wide = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  assert(!x.empty());
  float largest = x[0];
  std::size_t i = 0;
  if (x.size() >= width) {
    wide most = wide::load_unaligned(x.data());
    for (i = width; i + width <= x.size(); i += width) most = xsimd::max(most, wide::load_unaligned(x.data() + i));
    std::array<float, width> all;
    most.store_unaligned(all.data());
    largest = *std::max_element(all.begin(), all.end());
  }
  for (; i < x.size(); ++i) largest = std::max(largest, x[i]);
  // The difference comes first: rounded after the scale, it could put the largest one above 0 and not its neighbours.
  const wide top(largest), factor(scale * log2_e);
  wide total(0.f);
  const auto term = [&](const wide& v) { return exp2_of((v - top) * factor); };
  for (i = 0; i + width <= x.size(); i += width) {
    const wide p = term(wide::load_unaligned(x.data() + i));
    total += p;
    p.store_unaligned(x.data() + i);
  }
  float sum = sum_of(total);
  if (const std::size_t rest = x.size() - i; rest > 0) {
    store_first<Arch>(term(load_first<Arch>(x.data() + i, rest)), x.data() + i, rest);
    for (; i < x.size(); ++i) sum += x[i];
  }
  return sum;
}

}  // namespace programs::kernels
