#pragma once

#include <klens/detail/simd.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// e^u for u up to 88, at the price that a sweep over logits can pay. Below -87 it stays at e^-87; for a NaN it is unspecified.
/// Relative error below 2e-7, plus |u| 2^-23 from the product with log2(e): far from 0 the rounding of u itself is as large.
/// Method     2^n 2^f with n the nearest integer, f in [-1/2, 1/2]; minimax polynomial for 2^f scaled to give exactly 1 at 0.
template <class Arch>
[[nodiscard]] inline batch<float, Arch> lean_exp(const batch<float, Arch>& u) noexcept {
  using vector = batch<float, Arch>;
  const vector log2_e(1.44269504f), rounder(0x1.8p23f);  // the sum's low bits are the integer
  const vector in_range = xsimd::max(u, vector(-87.0f));
  const vector shifted = xsimd::fma(in_range, log2_e, rounder);
  const vector f = xsimd::fms(in_range, log2_e, shifted - rounder);
  vector power = xsimd::fma(vector(1.32764709e-3f), f, vector(9.6755398e-3f));
  power = xsimd::fma(power, f, vector(5.5507124e-2f));
  power = xsimd::fma(power, f, vector(0.240221173f));
  power = xsimd::fma(power, f, vector(0.69314686f));
  power = xsimd::fma(power, f, vector(1.0f));
  return from_bits<Arch>(bits_of<Arch>(power) + (bits_of<Arch>(shifted) << 23));
}

}  // namespace klens::detail
