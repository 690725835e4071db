#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/concepts.hpp>
#include <klens/detail/bit_packing.hpp>
#include <klens/detail/integer_codec.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/grid.hpp>
#include <klens/quant/weight_error.hpp>
#include <span>
#include <string>

namespace klens {

/// Integers of `Bits` bits with a scale for each group of consecutive columns of a row.
///   code = clamp(round(w / scale + zero)), kept = (code - zero) * stored scale; zero is 0 but for asym; halves go to even
/// Edges      A group of zeros stays zeros, and so does one whose scale underflows. The last group of a row may be shorter.
///            `kept` may be the weights themselves.
/// Storage    A row is its codes, then its scales, then for asym its zero points. The codes are a little-endian stream of bits,
///            padded to a whole byte: code i takes the bits [i b, (i+1) b), bit k being bit k % 8 of byte k / 8, so of two 4-bit
///            codes in a byte the first is the lower half. Codes are in two's complement, for asym unsigned. Scales are
///            little-endian fp16 or f32, one a group, without alignment. Zero points are a stream like the codes.
/// Throws     numeric_error for a weight that is not finite and for a scale too large for its storage (`kept` or `packed` is then
///            unspecified); shape_error where lengths do not fit.
/// Source     absmax: arXiv 2604.13440. signed and asym: what NNCF stores as *_SYM and *_ASYM.
template <int Bits, grid Grid = grid::absmax>
struct integer {
  static_assert(2 <= Bits && Bits <= 8, "integer has 2 to 8 bits");

  std::size_t group_size = 0;  ///< columns that share a scale; 0: the whole row
  scale_kind scale = scale_kind::f16;

  /// "int4-g64", "int8-channel", "int4-signed-g32", "int4-asym-channel-s32".
  [[nodiscard]] std::string name() const { return codec().name(); }

  /// Bytes of a stored row.
  [[nodiscard]] std::size_t bytes(std::size_t columns) const noexcept {
    const std::size_t zero_points = Grid == grid::asym ? detail::stream_bytes(groups(columns), Bits) : 0;
    return detail::stream_bytes(columns, Bits) + groups(columns) * scale_bytes() + zero_points;
  }

  template <class Arch = detail::best_arch>
  weight_error round_trip(std::span<const float> weights, std::span<float> kept, bool streaming = false) const {
    detail::expect_length(*this, "kept", kept.size(), weights.size());
    return detail::round_trip_groups<Arch>(codec(), group_of(weights.size()), weights, kept, streaming);
  }

  template <class Arch = detail::best_arch>
  [[gnu::flatten]] void pack(std::span<const float> weights, std::span<std::byte> packed) const {
    detail::expect_length(*this, "packed", packed.size(), bytes(weights.size()));
    detail::code_writer codes{packed.data(), Bits};
    std::byte* scales = packed.data() + detail::stream_bytes(weights.size(), Bits);
    detail::code_writer zero_points{scales + groups(weights.size()) * scale_bytes(), Bits};
    const auto arithmetic = codec();
    detail::for_coded_groups<Arch>(arithmetic, group_of(weights.size()), weights,
                                   [&](std::size_t, auto group, const detail::group_levels& levels, bool) {
      detail::write_codes<Arch>(arithmetic, levels, group, codes);
      if constexpr (Grid == grid::asym) *zero_points.append(1) = static_cast<std::int32_t>(levels.zero);
      const auto in_fp16 = static_cast<half>(levels.scale);
      std::memcpy(scales, scale == scale_kind::f16 ? static_cast<const void*>(&in_fp16) : &levels.scale, scale_bytes());
      scales += scale_bytes();
    });
    codes.finish();
    zero_points.finish();
  }

  template <class Arch = detail::best_arch>
  [[gnu::flatten]] void unpack(std::span<const std::byte> packed, std::span<float> kept) const {
    detail::expect_length(*this, "packed", packed.size(), bytes(kept.size()));
    detail::code_reader codes{packed.data(), kept.size(), Bits};
    const std::byte* scales = packed.data() + detail::stream_bytes(kept.size(), Bits);
    detail::code_reader zero_points{scales + groups(kept.size()) * scale_bytes(), groups(kept.size()), Bits};
    for (std::size_t first = 0; first < kept.size(); first += group_of(kept.size())) {
      detail::group_levels levels;
      half in_fp16;
      std::memcpy(scale == scale_kind::f16 ? static_cast<void*>(&in_fp16) : &levels.scale, scales, scale_bytes());
      if (scale == scale_kind::f16) levels.scale = static_cast<float>(in_fp16);
      scales += scale_bytes();
      if constexpr (Grid == grid::asym) levels.zero = static_cast<float>(*zero_points.take(1));
      detail::read_codes<Arch>(codec(), levels, codes, kept.subspan(first, std::min(group_of(kept.size()), kept.size() - first)));
    }
  }

  /// Scales of a row.
  [[nodiscard]] std::size_t groups(std::size_t columns) const noexcept {
    return columns == 0 ? 0 : (columns - 1) / group_of(columns) + 1;
  }
  [[nodiscard]] std::size_t scale_bytes() const noexcept { return scale == scale_kind::f16 ? 2 : 4; }

 private:
  [[nodiscard]] std::size_t group_of(std::size_t columns) const noexcept { return group_size == 0 ? columns : group_size; }
  [[nodiscard]] detail::integer_codec<Grid> codec() const noexcept { return {Bits, group_size, scale}; }
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
