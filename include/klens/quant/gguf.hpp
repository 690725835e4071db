#pragma once

#include <cstddef>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <span>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// The block formats of GGUF with nothing but a scale, bit for bit: 32 weights share a scale d in fp16. Use q4_0, q5_0 and q8_0.
///   q4_0   d = m / -8 with m the first weight of largest magnitude, code = min(15, floor(w / d + 8.5)), kept = (code - 8) d
///   q5_0   d = m / -16, code = min(31, floor(w / d + 16.5)), kept = (code - 16) d
///   q8_0   d = |m| / 127, code = w / d to the nearest, halves away from zero, kept = code d
/// where w / d is w times the rounded 1 / d, in float, and d in it is not yet rounded to fp16.
/// Edges      Rows of a multiple of 32 columns only. `kept` may be the weights themselves.
/// Storage    Blocks one after the other: d, then for q4_0 16 bytes, byte i with code i in its lower half and code i + 16 in
///            its upper half, for q8_0 32 codes of one byte, in two's complement. q5_0 has the fifth bits of its codes between d
///            and the halves, bit i of a little-endian number of 4 bytes for code i.
/// Throws     argument_error for other rows; numeric_error for a weight that is not finite and for a d too large for fp16
///            (`kept` or `packed` is then unspecified); shape_error where lengths do not fit.
/// Source     ggml's reference quantization (quantize_row_q4_0_ref, quantize_row_q5_0_ref, quantize_row_q8_0_ref).
template <int Bits>
struct gguf_block {
  static_assert(Bits == 4 || Bits == 5 || Bits == 8);
  static constexpr std::size_t block = 32;
  static constexpr std::size_t block_bytes = 2 + block * Bits / 8;

  [[nodiscard]] static constexpr const char* name() noexcept { return Bits == 4 ? "q4_0" : Bits == 5 ? "q5_0" : "q8_0"; }
  [[nodiscard]] static constexpr scheme_parts parts() noexcept {
    return {.family = scheme_family::gguf_block, .bits = Bits, .group_size = block};
  }
  [[nodiscard]] static constexpr bool stores(std::size_t columns) noexcept { return columns % block == 0; }

  /// Bytes of a stored row.
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t columns) noexcept {
    return (columns + block - 1) / block * block_bytes;
  }

  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    expect_blocks(weights.size());
    return detail::checked_round_trip(*this, weights, kept);
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const {
    expect_blocks(weights.size());
    detail::checked_pack(*this, weights, packed);
  }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const {
    expect_blocks(kept.size());
    detail::checked_unpack(*this, packed, kept);
  }

  [[nodiscard]] static constexpr float largest_scale() noexcept { return detail::largest_fp16_scale; }
  [[nodiscard]] static std::string limit_text() { return "and fp16 ends at 65504; use bf16"; }

 private:
  static void expect_blocks(std::size_t columns) {
    detail::expect_blocks(name(), columns, block, "use an int4 or int8 scheme for it");
  }
};

using q4_0 = gguf_block<4>;
using q5_0 = gguf_block<5>;
using q8_0 = gguf_block<8>;
static_assert(packing_quantizer<q4_0> && packing_quantizer<q5_0> && packing_quantizer<q8_0>);

}  // namespace klens

#if defined(KLENS_COMPILED)
#include <klens/quant/detail/compiled_loops.hpp>
#else
#include <klens/quant/detail/gguf_loops.hpp>
#endif
