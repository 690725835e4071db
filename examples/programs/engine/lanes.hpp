#pragma once
// Vectors of floats, and 16-bit values as floats.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/matrix.hpp>
#include <klens/simd.hpp>

namespace programs::kernels {

using namespace klens::simd;

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
