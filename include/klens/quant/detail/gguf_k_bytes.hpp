#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/quant/detail/lane_tile.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Where a block of a K-type has what: the layouts of block_q2_K to block_q6_K of ggml.
template <int Bits>
struct k_bytes {
  static constexpr bool in_32s = Bits == 4 || Bits == 5;  // groups, whose scales and least values take 6 bits each
  static constexpr std::size_t block = 256, groups = in_32s ? 8 : 16;

  // Offsets of the numbers of the block, of its scales, of the lowest bits of its codes and of their highest bits.
  static constexpr std::size_t unit = Bits == 2 ? 80 : Bits == 3 ? 108 : Bits == 6 ? 208 : 0;
  static constexpr std::size_t scales = Bits == 2 ? 0 : Bits == 3 ? 96 : Bits == 6 ? 192 : 4;
  static constexpr std::size_t lows = Bits == 2 ? 16 : Bits == 3 ? 32 : Bits == 4 ? 16 : Bits == 5 ? 48 : 0;
  static constexpr std::size_t highs = Bits == 3 ? 0 : Bits == 5 ? 16 : 128;
  static constexpr unsigned low_bits = Bits < 4 ? 2 : 4, high_bits = Bits - low_bits;
  static constexpr unsigned low_mask = (1 << low_bits) - 1;

  static void store_levels(float scale_unit, float least_unit, const int* scale_codes, const int* least_codes,
                           std::byte* to) noexcept {
    store_half(scale_unit, to + unit);
    if constexpr (Bits != 3 && Bits != 6) store_half(least_unit, to + unit + 2);
    std::byte* const at = to + scales;
    const auto put = [&](std::size_t i, int value) { at[i] |= static_cast<std::byte>(value); };
    std::fill_n(at, in_32s || Bits == 3 ? 12 : 16, std::byte{});
    for (std::size_t g = 0; g < groups; ++g) {
      const int scale = scale_codes[g], least = least_codes[g];
      if constexpr (Bits == 2) put(g, scale | least << 4);
      if constexpr (Bits == 3) {
        put(g % 8, ((scale + 32) & 15) << (g / 8 * 4));
        put(8 + g % 4, (scale + 32) >> 4 << (g / 4 * 2));
      }
      if constexpr (Bits == 6) put(g, scale);
      if constexpr (in_32s) {
        if (g < 4) {
          put(g, scale);
          put(g + 4, least);
        } else {
          put(g + 4, (scale & 15) | (least & 15) << 4);
          put(g - 4, scale >> 4 << 6);
          put(g, least >> 4 << 6);
        }
      }
    }
  }

  static void load_levels(const std::byte* from, float& scale_unit, float& least_unit, int* scale_codes,
                          int* least_codes) noexcept {
    scale_unit = load_half(from + unit);
    if constexpr (Bits != 3 && Bits != 6) least_unit = load_half(from + unit + 2);
    const auto at = [&](std::size_t i) { return std::to_integer<int>(from[scales + i]); };
    for (std::size_t g = 0; g < groups; ++g) {
      least_codes[g] = 0;
      if constexpr (Bits == 2) {
        scale_codes[g] = at(g) & 15;
        least_codes[g] = at(g) >> 4;
      }
      if constexpr (Bits == 3)
        scale_codes[g] = ((at(g % 8) >> (g / 8 * 4) & 15) | (at(8 + g % 4) >> (g / 4 * 2) & 3) << 4) - 32;
      if constexpr (Bits == 6) scale_codes[g] = static_cast<std::int8_t>(at(g));
      if constexpr (in_32s) {
        scale_codes[g] = g < 4 ? at(g) & 63 : (at(g + 4) & 15) | at(g - 4) >> 6 << 4;
        least_codes[g] = g < 4 ? at(g + 4) & 63 : at(g + 4) >> 4 | at(g) >> 6 << 4;
      }
    }
  }

  static void store_codes(const std::uint8_t* codes, std::byte* to) noexcept {
    std::fill_n(to + lows, block * low_bits / 8, std::byte{});
    if constexpr (high_bits != 0) std::fill_n(to + highs, block * high_bits / 8, std::byte{});
    for (std::size_t i = 0; i < block; i += 32) {
      const place low = low_place(i), high = high_place(i);
      for (std::size_t k = 0; k < 32; ++k) {
        to[low.at + k] |= static_cast<std::byte>((codes[i + k] & low_mask) << low.shift);
        if constexpr (high_bits != 0) to[high.at + k] |= static_cast<std::byte>(codes[i + k] >> low_bits << high.shift);
      }
    }
  }

  static void load_codes(const std::byte* from, std::uint8_t* codes) noexcept {
    for (std::size_t i = 0; i < block; i += 32) {
      const place low = low_place(i), high = high_place(i);
      for (std::size_t k = 0; k < 32; ++k) {
        unsigned code = std::to_integer<unsigned>(from[low.at + k]) >> low.shift & low_mask;
        if constexpr (high_bits != 0)
          code |= (std::to_integer<unsigned>(from[high.at + k]) >> high.shift & ((1u << high_bits) - 1)) << low_bits;
        codes[i + k] = static_cast<std::uint8_t>(code);
      }
    }
  }

 private:
  /// Where a run of 32 codes has its bits: in 32 bytes, at the same place of each.
  struct place {
    std::size_t at;
    unsigned shift;
  };
  [[nodiscard]] static constexpr place low_place(std::size_t first) noexcept {
    const std::size_t run = first / 32;
    if (low_bits == 2) return {lows + run / 4 * 32, static_cast<unsigned>(run % 4 * 2)};
    if (Bits == 6) return {lows + run / 4 * 64 + run % 2 * 32, static_cast<unsigned>(run % 4 / 2 * 4)};
    return {lows + run / 2 * 32, static_cast<unsigned>(run % 2 * 4)};
  }
  [[nodiscard]] static constexpr place high_place(std::size_t first) noexcept {
    const std::size_t run = first / 32;
    if (Bits == 6) return {highs + run / 4 * 32, static_cast<unsigned>(run % 4 * 2)};
    return {highs, static_cast<unsigned>(run)};
  }
};

}  // namespace klens::detail
