#pragma once
// The only file that includes xsimd: what differs between its versions (8.1 to 14) ends here.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <klens/detail/instruction_set.hpp>
#include <type_traits>
#include <xsimd/xsimd.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The widest instruction set that the compiler's flags allow. Kernels are templates on it, so that one binary can hold
/// several.
using best_arch = xsimd::default_arch;

template <class T, class Arch = best_arch>
using batch = xsimd::batch<T, Arch>;

template <class T, class Arch = best_arch>
inline constexpr std::size_t lanes = batch<T, Arch>::size;

template <class T, class Arch>
[[nodiscard]] inline T sum_of(const batch<T, Arch>& values) noexcept {
#if XSIMD_VERSION_MAJOR < 9
  return xsimd::hadd(values);
#else
  return xsimd::reduce_add(values);
#endif
}

/// The first `count` of a vector's elements, count < lanes; the others are 0.
template <class Arch>
[[nodiscard, gnu::noinline, gnu::cold]] inline batch<float, Arch> load_some(const float* from, std::size_t count) noexcept {
  alignas(batch<float, Arch>) float padded[lanes<float, Arch>] = {};
  std::copy_n(from, count, padded);
  return batch<float, Arch>::load_aligned(padded);
}
template <class Arch>
[[gnu::noinline, gnu::cold]] inline void store_some(batch<float, Arch> values, float* to, std::size_t count) noexcept {
  alignas(batch<float, Arch>) float all[lanes<float, Arch>];
  values.store_aligned(all);
  std::copy_n(all, count, to);
}

/// The same for any count <= lanes.
template <class Arch>
[[nodiscard]] inline batch<float, Arch> load_first(const float* from, std::size_t count) noexcept {
  if (count < lanes<float, Arch>) [[unlikely]]
    return load_some<Arch>(from, count);
  return batch<float, Arch>::load_unaligned(from);
}
template <class Arch>
inline void store_first(const batch<float, Arch>& values, float* to, std::size_t count) noexcept {
  if (count < lanes<float, Arch>) [[unlikely]]
    return store_some(values, to, count);
  values.store_unaligned(to);
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

/// Bytes as integers, and integers from 0 to 255 as bytes.
template <class Arch>
[[nodiscard]] inline batch<std::int32_t, Arch> load_bytes(const std::uint8_t* from) noexcept {
  using integers = batch<std::int32_t, Arch>;
#if defined(__AVX512F__)
  if constexpr (integers::size == 16) return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#endif
#if defined(__AVX2__)
  if constexpr (integers::size == 8 && std::is_base_of_v<xsimd::avx2, Arch>)
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#endif
  alignas(integers) std::int32_t wide[integers::size];
  std::copy_n(from, integers::size, wide);
  return integers::load_aligned(wide);
}
template <class Arch>
inline void store_bytes(const batch<std::int32_t, Arch>& values, std::uint8_t* to) noexcept {
  using integers = batch<std::int32_t, Arch>;
#if defined(__AVX512F__)
  if constexpr (integers::size == 16)
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(values.data));
#endif
#if defined(__AVX2__)
  if constexpr (integers::size == 8 && std::is_base_of_v<xsimd::avx2, Arch>) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(values.data), _mm256_extracti128_si256(values.data, 1));
    return _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
  }
#endif
  alignas(integers) std::int32_t wide[integers::size];
  values.store_aligned(wide);
  for (std::size_t i = 0; i < integers::size; ++i) to[i] = static_cast<std::uint8_t>(wide[i]);
}

/// Elements of a table of 32 floats, and whether that is one instruction.
#if defined(__AVX512F__)
template <class Arch>
inline constexpr bool has_look_up = lanes<float, Arch> == 16;
#else
template <class Arch>
inline constexpr bool has_look_up = false;
#endif
template <class Arch>
[[nodiscard]] inline batch<float, Arch> look_up(const float* table, const batch<std::int32_t, Arch>& indices) noexcept {
#if defined(__AVX512F__)
  if constexpr (has_look_up<Arch>)
    return _mm512_permutex2var_ps(_mm512_loadu_ps(table), indices.data, _mm512_loadu_ps(table + 16));
#endif
  alignas(batch<float, Arch>) std::int32_t index[lanes<float, Arch>];
  alignas(batch<float, Arch>) float found[lanes<float, Arch>];
  indices.store_aligned(index);
  for (std::size_t i = 0; i < lanes<float, Arch>; ++i) found[i] = table[index[i]];
  return batch<float, Arch>::load_aligned(found);
}

/// Elements of a table of 8 floats, aligned as a batch; where that is one instruction.
#if defined(__AVX2__)
template <class Arch>
inline constexpr bool has_short_look_up = lanes<float, Arch> == 8;
#else
template <class Arch>
inline constexpr bool has_short_look_up = false;
#endif
template <class Arch>
  requires has_short_look_up<Arch>
[[nodiscard]] inline batch<float, Arch> short_look_up(const float* table, const batch<std::int32_t, Arch>& indices) noexcept {
#if defined(__AVX2__)
  return _mm256_permutevar8x32_ps(_mm256_load_ps(table), indices.data);
#else
  return look_up<Arch>(table, indices);
#endif
}

/// The bits of floats as integers, and back. Between finite magnitudes the order is the same; infinities and NaNs come after.
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

/// a where the condition holds, else b. (xsimd 8.1's own, for integers, does not compile for AVX-512 without optimization.)
template <class Arch>
[[nodiscard]] inline batch<std::int32_t, Arch> choose(const xsimd::batch_bool<std::int32_t, Arch>& where,
                                                      const batch<std::int32_t, Arch>& a,
                                                      const batch<std::int32_t, Arch>& b) noexcept {
#if XSIMD_VERSION_MAJOR < 9
  const auto of_floats = xsimd::bool_cast(where);
#else
  const auto of_floats = xsimd::batch_bool_cast<float>(where);
#endif
  return bits_of(xsimd::select(of_floats, from_bits(a), from_bits(b)));
}

/// Lane i of the result is lane i ^ Distance.
template <unsigned Distance, class Arch>
[[nodiscard]] inline batch<std::int32_t, Arch> swap_lanes(const batch<std::int32_t, Arch>& values) noexcept {
  struct partner {
    static constexpr unsigned get(unsigned lane, unsigned) noexcept { return lane ^ Distance; }
  };
#if XSIMD_VERSION_MAJOR < 9
  constexpr auto partners = xsimd::make_batch_constant<batch<std::uint32_t, Arch>, partner>();
#else
  constexpr auto partners = xsimd::make_batch_constant<std::uint32_t, partner, Arch>();
#endif
  return bits_of(xsimd::swizzle(from_bits(values), partners));
}

/// As many vectors as each of them has lanes. (A name of its own: clang 14 cannot parse the type as a parameter's.)
template <class Arch>
using all_lanes_of = batch<std::int32_t, Arch>[lanes<std::int32_t, Arch>];

/// Lane i of the result is the largest element of vectors[i]. (Overwrites them.)
template <class Arch, unsigned Distance = 1>
[[nodiscard]] inline batch<std::int32_t, Arch> largest_of_each(all_lanes_of<Arch>& vectors) noexcept {
  using integers = batch<std::int32_t, Arch>;
  if constexpr (Distance == integers::size) {
    return vectors[0];
  } else {  // of two vectors one: a lane with index bit `Distance` belongs to the second
    alignas(integers) std::int32_t index[integers::size];
    for (std::size_t i = 0; i < integers::size; ++i) index[i] = static_cast<std::int32_t>(i);
    const auto second = (integers::load_aligned(index) & integers(Distance)) != integers(0);
    for (std::size_t i = 0; i < integers::size / Distance / 2; ++i) {
      const integers a = vectors[2 * i], b = vectors[2 * i + 1];
      vectors[i] = xsimd::max(choose(second, b, a), swap_lanes<Distance>(choose(second, a, b)));
    }
    return largest_of_each<Arch, Distance * 2>(vectors);
  }
}

template <class Arch>
[[nodiscard]] inline std::int32_t largest_of(const batch<std::int32_t, Arch>& values) noexcept {
  alignas(batch<std::int32_t, Arch>) std::int32_t all[lanes<std::int32_t, Arch>];
  values.store_aligned(all);
  return *std::max_element(std::begin(all), std::end(all));
}

/// a / b, rounded once. (xsimd's own division for NEON multiplies with a reciprocal that is a little off.)
template <class Arch>
[[nodiscard]] inline batch<float, Arch> quotient(const batch<float, Arch>& a, const batch<float, Arch>& b) noexcept {
#if defined(__aarch64__)
  if constexpr (std::is_base_of_v<xsimd::neon64, Arch>) return batch<float, Arch>(vdivq_f32(a.data, b.data));
#endif
  return a / b;
}

/// The same values, rounded to float here and now: without it compilers fuse a product with the sum that it goes into.
template <class Arch>
[[nodiscard]] inline batch<float, Arch> rounded(batch<float, Arch> values) noexcept {
#if defined(__GNUC__) && defined(__x86_64__)
  asm("" : "+x"(values.data));
#elif defined(__GNUC__) && defined(__aarch64__)
  asm("" : "+w"(values.data));
#endif
  return values;
}

/// Asks for memory that will be used soon, `ahead` bytes behind `at`, in the second cache. A row may end before (a matrix goes
/// on with its next row); prefetching an address that does not exist does nothing.
inline void prefetch(const void* at, std::size_t ahead) noexcept {
#if defined(__GNUC__)
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(at) + ahead), 0, 2);
#endif
}

/// While it lives, results below 1e-38 become 0: on x86 each of them would cost as much as a hundred others. The thread's own
/// setting comes back afterwards.
class flush_subnormals {
 public:
#if defined(__SSE2__)
  flush_subnormals() noexcept { _mm_setcsr(before_ | 0x8000u); }
  ~flush_subnormals() { _mm_setcsr(before_); }
#else
  flush_subnormals() noexcept {}
#endif
  flush_subnormals(const flush_subnormals&) = delete;
  flush_subnormals& operator=(const flush_subnormals&) = delete;

 private:
#if defined(__SSE2__)
  unsigned before_ = _mm_getcsr();
#endif
};

}  // namespace klens::detail
