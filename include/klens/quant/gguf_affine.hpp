#pragma once

#include <cstddef>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// The block formats of GGUF with a scale d and a least value m, both in fp16, for 32 weights, bit for bit. Use q4_1 and q5_1.
///   m = min w, d = (max w - m) / (2^b - 1), code = min(2^b - 1, floor((w - m) / d + 1/2)), kept = code d + m
/// where (w - m) / d is w - m times the rounded 1 / d, in float, and neither is yet rounded to fp16.
/// Edges      Rows of a multiple of 32 columns only. `kept` may be the weights themselves.
/// Storage    Blocks one after the other: d, m, then codes as gguf_block stores them.
/// Throws     argument_error for other rows; numeric_error for a weight that is not finite and for a d or an m too large for fp16
///            (`kept` or `packed` is then unspecified); shape_error where lengths do not fit.
/// Source     ggml's reference quantization (quantize_row_q4_1_ref, quantize_row_q5_1_ref).
template <int Bits>
struct gguf_affine_block {
  static_assert(Bits == 4 || Bits == 5);
  static constexpr std::size_t block = 32;
  static constexpr std::size_t block_bytes = 4 + block * Bits / 8;
  static constexpr bool has_minimum = true;

  [[nodiscard]] static constexpr const char* name() noexcept { return Bits == 4 ? "q4_1" : "q5_1"; }
  [[nodiscard]] static constexpr scheme_parts parts() noexcept {
    return {.family = scheme_family::gguf_block, .bits = Bits, .group_size = block, .grid = grid::asym};
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

  [[nodiscard]] static constexpr const char* limit_text() noexcept {
    return "or a least value of that size, and fp16 ends at 65504; use bf16";
  }

 private:
  static void expect_blocks(std::size_t columns) {
    detail::expect_blocks(name(), columns, block, "use an int4-asym or int5-asym scheme for it");
  }
};

using q4_1 = gguf_affine_block<4>;
using q5_1 = gguf_affine_block<5>;
static_assert(packing_quantizer<q4_1> && packing_quantizer<q5_1>);

}  // namespace klens

#if defined(KLENS_COMPILED)
#include <klens/quant/detail/compiled_loops.hpp>
#else
#include <klens/quant/detail/gguf_affine_loops.hpp>
#endif
