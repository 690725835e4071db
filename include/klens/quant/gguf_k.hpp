#pragma once

#include <cstddef>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// GGUF's K-types, bit for bit as ggml stores them without an importance matrix: blocks of 256 weights, in groups that share a
/// scale (and for q2_k, q4_k and q5_k a least value), which are integers of a few bits times one fp16 number of the block. Use
/// q2_k to q6_k.
///   q2_k, q4_k, q5_k   kept = d scale code - dmin least, groups of 16 for q2_k, else of 32
///   q3_k, q6_k         kept = d scale (code - 2^(b-1)), groups of 16
/// Scales come from a search: codes for scales around the one of the range, of each the best line through the weights in weighted
/// least squares (of weights root mean square + |w|; q2_k |w|, and absolute differences decide; q3_k and q6_k w^2), the best of
/// those. Then scales are rounded to their integers, and codes computed again with what is left.
/// Edges      Rows of a multiple of 256 columns only. Kept zeros may have either sign. `kept` may be the weights themselves.
/// Storage    Blocks of block_bytes, one after the other, in ggml's layout.
/// Throws     argument_error for other rows; numeric_error for a weight that is not finite and for a d or dmin too large for fp16
///            (`kept` or `packed` is then unspecified); shape_error where lengths do not fit.
/// Precision  Float, one operation after the other in ggml's order, none of them fused: the bits that ggml's portable code gives.
/// Source     ggml's reference quantization (quantize_row_q4_K_ref and its kin).
template <int Bits>
struct gguf_k_block {
  static_assert(2 <= Bits && Bits <= 6);
  static constexpr std::size_t super_block = 256;
  static constexpr std::size_t group = Bits == 4 || Bits == 5 ? 32 : 16;
  static constexpr std::size_t block_bytes = Bits == 2 ? 84 : Bits == 3 ? 110 : Bits == 4 ? 144 : Bits == 5 ? 176 : 210;
  static constexpr bool has_least = Bits != 3 && Bits != 6;

  [[nodiscard]] static constexpr const char* name() noexcept {
    constexpr const char* names[] = {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k"};
    return names[Bits - 2];
  }
  [[nodiscard]] static constexpr scheme_parts parts() noexcept {
    return {
        .family = scheme_family::gguf_block, .bits = Bits, .group_size = group, .grid = has_least ? grid::asym : grid::signed_};
  }
  [[nodiscard]] static constexpr bool stores(std::size_t columns) noexcept { return columns % super_block == 0; }

  /// Bytes of a stored row.
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t columns) noexcept {
    return (columns + super_block - 1) / super_block * block_bytes;
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

  [[nodiscard]] static constexpr const char* limit_text() noexcept { return "and fp16 ends at 65504; use bf16"; }

 private:
  static void expect_blocks(std::size_t columns) {
    detail::expect_blocks(name(), columns, super_block, "use q4_0, q5_0 or q8_0 for it, or an integer scheme");
  }
};

using q2_k = gguf_k_block<2>;
using q3_k = gguf_k_block<3>;
using q4_k = gguf_k_block<4>;
using q5_k = gguf_k_block<5>;
using q6_k = gguf_k_block<6>;
static_assert(packing_quantizer<q2_k> && packing_quantizer<q6_k>);

}  // namespace klens

#if defined(KLENS_COMPILED)
#include <klens/quant/detail/compiled_loops.hpp>
#else
#include <klens/quant/detail/gguf_k_loops.hpp>
#endif
