#pragma once

#include <cstddef>
#include <klens/quant/detail/integer_rows.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <span>
#include <string>
#if defined(KLENS_COMPILED)
#include <klens/quant/detail/compiled_loops.hpp>
#else
#include <klens/quant/detail/integer_loops.hpp>
#endif

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Integers of `Bits` bits with a scale for each group of consecutive columns of a row.
///   code = clamp(round(w / scale + zero)), kept = (code - zero) * stored scale; zero is 0 but for asym; halves go to even
/// Edges      A group of zeros stays zeros, and so does one whose scale underflows. The last group of a row may be shorter.
///            `kept` may be the weights themselves.
/// Storage    A row is its codes, then its scales, then for asym its zero points. The codes are a little-endian stream of bits,
///            padded to a whole byte: code i takes the bits [i b, (i+1) b), bit k being bit k % 8 of byte k / 8, so of two
///            4-bit codes in a byte the first is the lower half. Codes are in two's complement, for asym unsigned. Scales are
///            little-endian fp16 or f32, one a group, without alignment. Zero points are a stream like the codes.
/// Throws     numeric_error for a weight that is not finite and for a scale too large for its storage (`kept` or `packed` is
///            then unspecified); shape_error where lengths do not fit.
/// Source     absmax: arXiv 2604.13440. signed and asym: what NNCF stores as *_SYM and *_ASYM.
template <int Bits, grid Grid = grid::absmax>
struct integer {
  static_assert(2 <= Bits && Bits <= 8, "integer has 2 to 8 bits");

  std::size_t group_size = 0;  ///< columns that share a scale; 0: the whole row
  scale_kind scale = scale_kind::f16;

  /// "int4-g64", "int8-channel", "int4-signed-g32", "int4-asym-channel-f32".
  [[nodiscard]] std::string name() const { return rows().name(); }
  [[nodiscard]] scheme_parts parts() const noexcept { return rows().parts(); }

  /// Bytes of a stored row.
  [[nodiscard]] std::size_t bytes(std::size_t columns) const noexcept { return rows().bytes(columns); }

  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return detail::checked_round_trip(rows(), weights, kept);
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const {
    detail::checked_pack(rows(), weights, packed);
  }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const { detail::checked_unpack(rows(), packed, kept); }

  /// The same as run-time values.
  [[nodiscard]] detail::integer_rows rows() const noexcept { return {Bits, Grid, group_size, scale}; }
};

using int2 = integer<2>;
using int3 = integer<3>;
using int4 = integer<4>;
using int5 = integer<5>;
using int6 = integer<6>;
using int8 = integer<8>;
using int4_signed = integer<4, grid::signed_>;
using int8_signed = integer<8, grid::signed_>;
using int4_asym = integer<4, grid::asym>;
using int8_asym = integer<8, grid::asym>;
static_assert(packing_quantizer<int4>);

}  // namespace klens
