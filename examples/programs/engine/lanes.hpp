#pragma once
// The engine's only file that includes xsimd: what differs between its versions (8.1 to 14) ends here.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/matrix.hpp>
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

/// `count` values of fp16 or bf16, at any address, as the floats that they are.
inline void floats_of_half(const std::byte* from, float* to, std::size_t count) noexcept {
  std::size_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= count; i += 16)
    _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 2 * i))));
#elif defined(__F16C__)
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i))));
#endif
  for (; i < count; ++i) {
    klens::half value;
    std::memcpy(static_cast<void*>(&value), from + 2 * i, 2);
    to[i] = static_cast<float>(value);
  }
}
inline void floats_of_bfloat16(const std::byte* from, float* to, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t half_of_bits;
    std::memcpy(&half_of_bits, from + 2 * i, 2);
    const std::uint32_t bits = std::uint32_t{half_of_bits} << 16;
    std::memcpy(to + i, &bits, 4);
  }
}

}  // namespace programs::kernels
