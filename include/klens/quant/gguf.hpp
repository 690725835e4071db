#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/detail/stored_scale.hpp>
#include <klens/quant/grid.hpp>
#include <klens/quant/quantizer.hpp>
#include <limits>
#include <span>
#include <string>

namespace klens {

/// The block formats of GGUF, bit for bit: 32 weights share a scale d in fp16. Use q4_0 and q8_0.
///   q4_0   d = m / -8 with m the first weight of largest magnitude, code = min(15, floor(w / d + 8.5)), kept = (code - 8) d
///   q8_0   d = |m| / 127, code = w / d to the nearest, halves away from zero, kept = code d
/// where w / d is w times the rounded 1 / d, in float, and d in it is not yet rounded to fp16.
/// Edges      Rows of a multiple of 32 columns only. `kept` may be the weights themselves.
/// Storage    Blocks one after the other: d, then for q4_0 16 bytes, byte i with code i in its lower half and code i + 16 in
///            its upper half, for q8_0 32 codes of one byte, in two's complement.
/// Throws     argument_error for other rows; numeric_error for a weight that is not finite and for a d too large for fp16
///            (`kept` or `packed` is then unspecified); shape_error where lengths do not fit.
/// Source     ggml's reference quantization (quantize_row_q4_0_ref, quantize_row_q8_0_ref).
template <int Bits>
struct gguf_block {
  static_assert(Bits == 4 || Bits == 8);
  static constexpr std::size_t block = 32;
  static constexpr std::size_t block_bytes = 2 + block * Bits / 8;

  [[nodiscard]] static constexpr const char* name() noexcept { return Bits == 4 ? "q4_0" : "q8_0"; }
  [[nodiscard]] static constexpr bool stores(std::size_t columns) noexcept { return columns % block == 0; }

  /// Bytes of a stored row.
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t columns) noexcept {
    return (columns + block - 1) / block * block_bytes;
  }

  template <class Arch = detail::best_arch>
  weight_error round_trip(std::span<const float> weights, std::span<float> kept, bool streaming = false) const {
    detail::expect_length(*this, "kept", kept.size(), weights.size());
    expect_blocks(weights.size());
    return detail::round_trip_groups<Arch>(*this, block, weights, kept, streaming);
  }

  template <class Arch = detail::best_arch>
  [[gnu::flatten]] void pack(std::span<const float> weights, std::span<std::byte> packed) const {
    detail::expect_length(*this, "packed", packed.size(), bytes(weights.size()));
    expect_blocks(weights.size());
    detail::for_coded_groups<Arch>(
        *this, block, weights, [&](std::size_t first, auto group, const detail::group_levels& of, bool) {
          codes into;
          detail::write_codes<Arch>(*this, of, group, into);
          std::byte* const to = &packed[first / block * block_bytes];
          detail::store_scale(of.scale, scale_kind::f16, to);
          for (std::size_t i = 0; i < block_bytes - 2; ++i)
            to[2 + i] = static_cast<std::byte>(Bits == 4 ? into.values[i] | into.values[i + block / 2] << 4 : into.values[i]);
        });
  }

  template <class Arch = detail::best_arch>
  [[gnu::flatten]] void unpack(std::span<const std::byte> packed, std::span<float> kept, bool streaming = false) const {
    detail::expect_length(*this, "packed", packed.size(), bytes(kept.size()));
    expect_blocks(kept.size());
    streaming = streaming && detail::can_stream<Arch>(kept.data(), block);
    for (std::size_t first = 0; first < kept.size(); first += block) {
      const std::byte* const from = &packed[first / block * block_bytes];
      codes of;
      for (std::size_t i = 0; i < block_bytes - 2; ++i) {
        const auto stored = std::to_integer<std::uint8_t>(from[2 + i]);
        of.values[i] = Bits == 4 ? stored & 15 : stored;
        if constexpr (Bits == 4) of.values[i + block / 2] = stored >> 4;
      }
      detail::read_codes<Arch>(*this, {.scale = detail::load_scale(scale_kind::f16, from)}, of,
                               kept.subspan(first).first<block>(), streaming);
    }
  }

  // How a block is coded, as detail/group_rows.hpp wants it.

  static constexpr bool has_sign = Bits == 4;
  [[nodiscard]] static constexpr float largest_scale() noexcept { return detail::largest_fp16_scale; }
  [[nodiscard]] static std::string limit_text() { return "and fp16 ends at 65504; use bf16"; }

  template <class Arch>
  void prepare(detail::group_tile& tile, std::size_t groups, std::span<const float> weights) const noexcept {
    using floats = detail::batch<float, Arch>;
    using integers = detail::batch<std::int32_t, Arch>;
    if constexpr (Bits == 4)  // where both ends are as far, the weight that comes first decides
      for (std::size_t first = 0, g = 0; first < weights.size(); first += block, ++g)
        if (tile.above[g] == tile.below[g] && tile.above[g] != 0) [[unlikely]]
          (first_largest_is_negative(weights.subspan(first, block)) ? tile.above[g] : tile.below[g]) -= 1;
    for (std::size_t g = 0; g < groups; g += floats::size) {
      const integers above = integers::load_aligned(tile.above + g), below = integers::load_aligned(tile.below + g);
      floats scale = detail::quotient(detail::from_bits(above), floats(127.0f));
      if constexpr (Bits == 4)  // the bits are compared, so that a NaN is the larger one
        scale =
            floats(0.125f) * detail::from_bits(detail::choose(below > above, below, above ^ integers(~detail::magnitude_bits)));
      scale.store_aligned(tile.divisor + g);
      const floats inverse = detail::quotient(floats(1.0f), scale);
      const auto finite = xsimd::abs(inverse) <= floats(std::numeric_limits<float>::max());
      xsimd::select(finite, inverse, floats(0.0f)).store_aligned(tile.inverse + g);
      detail::nearest_fp16(scale).store_aligned(tile.scale + g);
    }
  }

  static constexpr int zero = Bits == 4 ? 8 : 0;  // the code that means 0

  template <class Vectors>
  [[nodiscard]] static Vectors encode(Vectors weights, const detail::group_levels& of) noexcept {
    for (auto& each : weights) each = nearest(detail::rounded(each * std::decay_t<decltype(each)>(of.inverse)));
    return weights;
  }
  template <class Vector>
  [[nodiscard]] static Vector decode(const Vector& steps, const detail::group_levels& of) noexcept {
    return detail::rounded(steps * Vector(of.scale));
  }

  template <class Arch>
  [[nodiscard]] static detail::batch<std::int32_t, Arch> to_stored(const detail::batch<float, Arch>& steps,
                                                                   const detail::group_levels& /*of*/) noexcept {
    using integers = detail::batch<std::int32_t, Arch>;
    return (xsimd::to_int(steps) + integers(zero)) & integers(255);
  }
  template <class Arch>
  [[nodiscard]] static detail::batch<float, Arch> from_stored(const detail::batch<std::int32_t, Arch>& stored,
                                                              const detail::group_levels& /*of*/) noexcept {
    const detail::batch<std::int32_t, Arch> sign(Bits == 4 ? 0 : 128), offset(Bits == 4 ? zero : 128);
    return xsimd::to_float((stored ^ sign) - offset);
  }

 private:
  template <class Arch>
  [[nodiscard]] static detail::batch<float, Arch> nearest(const detail::batch<float, Arch>& steps) noexcept {
    using floats = detail::batch<float, Arch>;
    if constexpr (Bits == 4) return xsimd::to_float(xsimd::to_int(xsimd::min(steps + floats(8.5f), floats(15)))) - floats(zero);
    const floats whole = xsimd::to_float(xsimd::to_int(steps)), rest = steps - whole;
    const floats down = xsimd::select(rest <= floats(-0.5f), whole - floats(1), whole);
    return xsimd::to_float(xsimd::to_int(xsimd::select(rest >= floats(0.5f), whole + floats(1), down)));
  }

  [[nodiscard]] static bool first_largest_is_negative(std::span<const float> weights) noexcept {
    return *std::max_element(weights.begin(), weights.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }) < 0;
  }

  /// The codes of a block, as group_rows.hpp writes and reads them.
  struct codes {
    std::uint8_t values[block];
    std::size_t next = 0;
    [[nodiscard]] std::uint8_t* append(std::size_t count) noexcept { return take(count); }
    [[nodiscard]] std::uint8_t* take(std::size_t count) noexcept { return values + (next += count) - count; }
  };

  static void expect_blocks(std::size_t columns) {
    if (!stores(columns)) [[unlikely]]
      refuse_columns(columns);
  }
  [[noreturn, gnu::noinline, gnu::cold]] static void refuse_columns(std::size_t columns) {
    throw argument_error{std::string{name()} + ": a row of " + std::to_string(columns) +
                         " columns is no multiple of 32; use an int4 or int8 scheme for it"};
  }
};

using q4_0 = gguf_block<4>;
using q8_0 = gguf_block<8>;
static_assert(packing_quantizer<q4_0> && packing_quantizer<q8_0>);

}  // namespace klens
