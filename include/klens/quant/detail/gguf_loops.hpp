#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/code_streams.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/half_rounding.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/gguf.hpp>
#include <limits>
#include <span>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// 32 codes of 4 or 5 bits as GGUF's blocks hold them: the fifth bits as a number of 4 bytes, then byte i with the lower halves
/// of codes i and i + 16.
template <int Bits>
inline void store_block_codes(const std::uint8_t* codes, std::byte* to) noexcept {
  if constexpr (Bits == 5) {
    std::uint32_t fifth = 0;
    for (unsigned i = 0; i < 32; ++i) fifth |= static_cast<std::uint32_t>(codes[i] >> 4) << i;
    for (unsigned i = 0; i < 4; ++i) *to++ = static_cast<std::byte>(fifth >> 8 * i);
  }
  for (std::size_t i = 0; i < 16; ++i) to[i] = static_cast<std::byte>((codes[i] & 15) | codes[i + 16] << 4);
}
template <int Bits>
inline void load_block_codes(const std::byte* from, std::uint8_t* codes) noexcept {
  std::uint32_t fifth = 0;
  if constexpr (Bits == 5)
    for (unsigned i = 0; i < 4; ++i) fifth |= std::to_integer<std::uint32_t>(*from++) << 8 * i;
  for (std::size_t i = 0; i < 16; ++i) {
    const auto stored = std::to_integer<std::uint8_t>(from[i]);
    codes[i] = static_cast<std::uint8_t>((stored & 15) | (fifth >> i & 1) << 4);
    codes[i + 16] = static_cast<std::uint8_t>(stored >> 4 | (fifth >> (i + 16) & 1) << 4);
  }
}

/// The arithmetic of a gguf_block, as group_rows.hpp asks for it. Codes go through the loops as floats around 0.
template <class Arch, int Bits>
struct gguf_codec {
  using floats = batch<float, Arch>;
  using integers = batch<std::int32_t, Arch>;
  static constexpr bool first_decides = Bits != 8;                  // the sign of the scale is that of a weight
  static constexpr int zero = first_decides ? 1 << (Bits - 1) : 0;  // the stored code that means 0

  gguf_block<Bits> rows;

  [[nodiscard]] static constexpr bool has_sign() noexcept { return first_decides; }

  [[gnu::noinline]] void prepare(group_tile& tile, std::size_t groups, std::span<const float> weights) const noexcept {
    if constexpr (first_decides)  // of two weights of largest magnitude the first decides
      for (std::size_t first = 0, g = 0; first < weights.size(); first += rows.block, ++g)
        if (tile.above[g] == tile.below[g] && tile.above[g] != 0) [[unlikely]]
          (first_largest_is_negative(weights.subspan(first, rows.block)) ? tile.above[g] : tile.below[g]) -= 1;
    for (std::size_t g = 0; g < groups; g += floats::size) {
      const integers above = integers::load_aligned(tile.above + g), below = integers::load_aligned(tile.below + g);
      floats scale = quotient(from_bits(above), floats(127.0f));
      if constexpr (first_decides)  // the bits are compared, so that a NaN is the larger one
        scale = floats(1.0f / static_cast<float>(zero)) *
                from_bits(choose(below > above, below, above ^ integers(~magnitude_bits)));
      scale.store_aligned(tile.divisor + g);
      const floats inverse = quotient(floats(1.0f), scale);
      const auto finite = xsimd::abs(inverse) <= floats(std::numeric_limits<float>::max());
      xsimd::select(finite, inverse, floats(0.0f)).store_aligned(tile.inverse + g);
      nearest_fp16(scale).store_aligned(tile.scale + g);
      floats(0.0f).store_aligned(tile.zero + g);
    }
  }

  template <class Vectors>
  [[nodiscard]] static Vectors encode(Vectors weights, const group_levels& of) noexcept {
    for (floats& each : weights) each = nearest(rounded(each * floats(of.inverse)));
    return weights;
  }
  [[nodiscard]] static floats decode(const floats& steps, const group_levels& of) noexcept {
    return rounded(steps * floats(of.scale));
  }

  [[nodiscard]] static integers to_stored(const floats& steps, const group_levels& /*of*/) noexcept {
    return (xsimd::to_int(steps) + integers(zero)) & integers(255);
  }
  [[nodiscard]] static floats from_stored(const integers& stored, const group_levels& /*of*/) noexcept {
    const integers sign(first_decides ? 0 : 128), offset(first_decides ? zero : 128);
    return xsimd::to_float((stored ^ sign) - offset);
  }

 private:
  [[nodiscard]] static floats nearest(const floats& steps) noexcept {
    if constexpr (first_decides)
      return xsimd::to_float(xsimd::to_int(xsimd::min(steps + floats(zero + 0.5f), floats(2 * zero - 1)))) - floats(zero);
    const floats whole = xsimd::to_float(xsimd::to_int(steps)), rest = steps - whole;
    const floats down = xsimd::select(rest <= floats(-0.5f), whole - floats(1), whole);
    return xsimd::to_float(xsimd::to_int(xsimd::select(rest >= floats(0.5f), whole + floats(1), down)));
  }

  [[nodiscard]] static bool first_largest_is_negative(std::span<const float> weights) noexcept {
    return *std::max_element(weights.begin(), weights.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }) < 0;
  }
};

template <class Arch, int Bits>
struct row_loops<Arch, gguf_block<Bits>> {
  using rows_type = gguf_block<Bits>;
  using codec_type = gguf_codec<Arch, Bits>;
  static constexpr std::size_t block = rows_type::block;

  [[nodiscard]] static unstorable round_trip(const rows_type&, std::span<const float> weights, std::span<float> kept,
                                             weight_error& error) noexcept {
    return round_trip_groups<Arch>(codec_type{}, constant<block>{}, weights, kept, error);
  }

  [[nodiscard, gnu::flatten]] static unstorable pack(const rows_type&, std::span<const float> weights,
                                                     std::byte* packed) noexcept {
    return for_coded_groups<Arch>(codec_type{}, constant<block>{}, weights,
                                  [&](std::size_t first, auto group, const group_levels& of, bool) {
                                    codes into;
                                    write_codes<Arch>(codec_type{}, of, group, into);
                                    std::byte* const to = packed + first / block * rows_type::block_bytes;
                                    store_scale(of.scale, scale_kind::f16, to);
                                    if constexpr (Bits == 8)
                                      std::memcpy(to + 2, into.values, block);
                                    else
                                      store_block_codes<Bits>(into.values, to + 2);
                                  });
  }

  [[gnu::flatten]] static void unpack(const rows_type&, const std::byte* packed, std::span<float> kept) noexcept {
    for (std::size_t first = 0; first < kept.size(); first += block) {
      const std::byte* const from = packed + first / block * rows_type::block_bytes;
      codes of;
      if constexpr (Bits == 8)
        std::memcpy(of.values, from + 2, block);
      else
        load_block_codes<Bits>(from + 2, of.values);
      read_codes<Arch>(codec_type{}, {.scale = load_scale(scale_kind::f16, from)}, of, kept.subspan(first).first<block>());
    }
  }

 private:
  /// The codes of a block, as code_streams.hpp writes and reads them.
  struct codes {
    std::uint8_t values[block];
    std::size_t next = 0;
    [[nodiscard]] std::uint8_t* append(std::size_t count) noexcept { return take(count); }
    [[nodiscard]] std::uint8_t* take(std::size_t count) noexcept { return values + (next += count) - count; }
  };
};

}  // namespace klens::detail
