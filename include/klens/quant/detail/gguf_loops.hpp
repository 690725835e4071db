#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
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

/// The arithmetic of a gguf_block, as group_rows.hpp asks for it. Codes go through the loops as floats around 0.
template <class Arch, int Bits>
struct gguf_codec {
  using floats = batch<float, Arch>;
  using integers = batch<std::int32_t, Arch>;
  static constexpr int zero = Bits == 4 ? 8 : 0;  // the stored code that means 0

  gguf_block<Bits> rows;

  [[nodiscard]] static constexpr bool has_sign() noexcept { return Bits == 4; }

  [[gnu::noinline]] void prepare(group_tile& tile, std::size_t groups, std::span<const float> weights) const noexcept {
    if constexpr (Bits == 4)  // of two weights of largest magnitude the first decides
      for (std::size_t first = 0, g = 0; first < weights.size(); first += rows.block, ++g)
        if (tile.above[g] == tile.below[g] && tile.above[g] != 0) [[unlikely]]
          (first_largest_is_negative(weights.subspan(first, rows.block)) ? tile.above[g] : tile.below[g]) -= 1;
    for (std::size_t g = 0; g < groups; g += floats::size) {
      const integers above = integers::load_aligned(tile.above + g), below = integers::load_aligned(tile.below + g);
      floats scale = quotient(from_bits(above), floats(127.0f));
      if constexpr (Bits == 4)  // the bits are compared, so that a NaN is the larger one
        scale = floats(0.125f) * from_bits(choose(below > above, below, above ^ integers(~magnitude_bits)));
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
    const integers sign(Bits == 4 ? 0 : 128), offset(Bits == 4 ? zero : 128);
    return xsimd::to_float((stored ^ sign) - offset);
  }

 private:
  [[nodiscard]] static floats nearest(const floats& steps) noexcept {
    if constexpr (Bits == 4) return xsimd::to_float(xsimd::to_int(xsimd::min(steps + floats(8.5f), floats(15)))) - floats(zero);
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
  static constexpr std::size_t block = rows_type::block, code_bytes = rows_type::block_bytes - 2;

  [[nodiscard]] static unstorable round_trip(const rows_type&, std::span<const float> weights, std::span<float> kept,
                                             weight_error& error) noexcept {
    return round_trip_groups<Arch>(codec_type{}, constant<block>{}, weights, kept, error);
  }

  [[nodiscard, gnu::flatten]] static unstorable pack(const rows_type&, std::span<const float> weights,
                                                     std::byte* packed) noexcept {
    return for_coded_groups<Arch>(
        codec_type{}, constant<block>{}, weights, [&](std::size_t first, auto group, const group_levels& of, bool) {
          codes into;
          write_codes<Arch>(codec_type{}, of, group, into);
          std::byte* const to = packed + first / block * rows_type::block_bytes;
          store_scale(of.scale, scale_kind::f16, to);
          for (std::size_t i = 0; i < code_bytes; ++i)
            to[2 + i] = static_cast<std::byte>(Bits == 4 ? into.values[i] | into.values[i + block / 2] << 4 : into.values[i]);
        });
  }

  [[gnu::flatten]] static void unpack(const rows_type&, const std::byte* packed, std::span<float> kept) noexcept {
    for (std::size_t first = 0; first < kept.size(); first += block) {
      const std::byte* const from = packed + first / block * rows_type::block_bytes;
      codes of;
      for (std::size_t i = 0; i < code_bytes; ++i) {
        const auto stored = std::to_integer<std::uint8_t>(from[2 + i]);
        of.values[i] = Bits == 4 ? stored & 15 : stored;
        if constexpr (Bits == 4) of.values[i + block / 2] = stored >> 4;
      }
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
