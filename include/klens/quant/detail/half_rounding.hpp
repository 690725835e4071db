#pragma once

#include <cstdint>
#include <klens/detail/simd.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

inline constexpr std::int32_t magnitude_bits = 0x7fffffff;

/// Floats with `Dropped` fewer bits: to the nearest, halves to even. Unspecified where the rounded magnitude overflows.
template <int Dropped, class Arch>
[[nodiscard]] inline batch<std::int32_t, Arch> drop_bits(const batch<std::int32_t, Arch>& magnitude) noexcept {
  using integers = batch<std::int32_t, Arch>;
  const integers odd = (magnitude >> Dropped) & integers(1);
  return (magnitude + integers((1 << (Dropped - 1)) - 1) + odd) & integers(-(1 << Dropped));
}

/// The nearest numbers of fp16, for magnitudes below 65520. Below 2^-14 they are 2^-24 apart, as floats between 1/2 and 1 are.
template <class Arch>
[[nodiscard]] inline batch<float, Arch> nearest_fp16(const batch<float, Arch>& values) noexcept {
  using integers = batch<std::int32_t, Arch>;
  const batch<float, Arch> half_one(0.5f);
  const integers bits = bits_of(values), magnitude = bits & integers(magnitude_bits);
  const integers subnormal = bits_of((from_bits(magnitude) + half_one) - half_one);
  const integers nearest = choose(magnitude < integers(0x38800000), subnormal, drop_bits<13>(magnitude));
  return from_bits(nearest | (bits & integers(~magnitude_bits)));
}

/// The nearest numbers of bf16, for magnitudes below 2^128 - 2^119.
template <class Arch>
[[nodiscard]] inline batch<float, Arch> nearest_bf16(const batch<float, Arch>& values) noexcept {
  using integers = batch<std::int32_t, Arch>;
  const integers bits = bits_of(values);
  return from_bits(drop_bits<16>(bits & integers(magnitude_bits)) | (bits & integers(~magnitude_bits)));
}

}  // namespace klens::detail
