#pragma once
// The engine's only file that includes xsimd: what differs between its versions (8.1 to 14) ends here.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <xsimd/xsimd.hpp>

namespace programs::kernels {

/// The widest instruction set that the compiler's flags allow.
using best_arch = xsimd::default_arch;

template <class T, class Arch = best_arch>
using batch = xsimd::batch<T, Arch>;

template <class T, class Arch = best_arch>
inline constexpr std::size_t lanes = batch<T, Arch>::size;

template <class Arch>
[[nodiscard]] inline float sum_of(const batch<float, Arch>& values) noexcept {
#if XSIMD_VERSION_MAJOR < 9
  return xsimd::hadd(values);
#else
  return xsimd::reduce_add(values);
#endif
}

/// The first `count` <= lanes elements; the others are 0.
template <class Arch>
[[nodiscard]] inline batch<float, Arch> load_first(const float* from, std::size_t count) noexcept {
  if (count == lanes<float, Arch>) return batch<float, Arch>::load_unaligned(from);
  alignas(batch<float, Arch>) float padded[lanes<float, Arch>] = {};
  std::copy_n(from, count, padded);
  return batch<float, Arch>::load_aligned(padded);
}
template <class Arch>
inline void store_first(const batch<float, Arch>& values, float* to, std::size_t count) noexcept {
  if (count == lanes<float, Arch>) return values.store_unaligned(to);
  alignas(batch<float, Arch>) float all[lanes<float, Arch>];
  values.store_aligned(all);
  std::copy_n(all, count, to);
}

/// The larger of a value and a limit; a NaN stays one. (Which of a NaN and a number is the larger changes between versions.)
template <class Arch>
[[nodiscard]] inline batch<float, Arch> at_least(float limit, const batch<float, Arch>& values) noexcept {
#if XSIMD_VERSION_MAJOR < 9
  return xsimd::max(batch<float, Arch>(limit), values);
#else
  return xsimd::select(values < batch<float, Arch>(limit), batch<float, Arch>(limit), values);
#endif
}

/// The bits of floats as integers, and back.
template <class Arch>
[[nodiscard]] inline batch<std::int32_t, Arch> bits_of(const batch<float, Arch>& values) noexcept {
#if XSIMD_VERSION_MAJOR < 9
  return xsimd::bitwise_cast<batch<std::int32_t, Arch>>(values);
#else
  return xsimd::bitwise_cast<std::int32_t>(values);
#endif
}
template <class Arch>
[[nodiscard]] inline batch<float, Arch> from_bits(const batch<std::int32_t, Arch>& bits) noexcept {
#if XSIMD_VERSION_MAJOR < 9
  return xsimd::bitwise_cast<batch<float, Arch>>(bits);
#else
  return xsimd::bitwise_cast<float>(bits);
#endif
}

}  // namespace programs::kernels
