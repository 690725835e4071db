#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/coded_loops.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/detail/small_floats.hpp>
#include <klens/quant/detail/value_codes.hpp>
#include <klens/quant/mxfp4.hpp>
#include <limits>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The arithmetic of mxfp4, as coded_loops.hpp asks for it. Codes go through the loops as the floats that they stand for.
template <class Arch>
struct mxfp4_codec : number_codes<Arch, e2m1, 4> {
  using codes = number_codes<Arch, e2m1, 4>;
  using typename codes::floats;
  using typename codes::integers;
  static constexpr std::size_t usual_group = 32;
  static constexpr std::size_t scale_bytes = 1;
  static constexpr std::int32_t lowest = 1 << 22;  // the bits of 2^-127, whose exponent is stored as 0

  mxfp4 rows;

  [[gnu::noinline]] void prepare(group_tile& tile, std::size_t groups, std::span<const float> /*weights*/) const noexcept {
    for (std::size_t g = 0; g < groups; g += floats::size) {
      const integers largest = integers::load_aligned(tile.above + g);
      const integers exponent = xsimd::max((largest >> 23) - integers(2), integers(0));
      from_bits(largest).store_aligned(tile.divisor + g);  // which says whether all weights are finite
      from_bits((integers(254) - exponent) << 23).store_aligned(tile.inverse + g);
      from_bits(xsimd::max(exponent << 23, integers(lowest))).store_aligned(tile.scale + g);
    }
  }

  template <class Vectors>
  [[nodiscard]] static Vectors encode(Vectors weights, const group_levels& of) noexcept {
    for (floats& each : weights) each = e2m1::nearest(rounded(each * floats(of.inverse)));
    return weights;
  }

  static void store(const group_levels& of, std::byte* to) noexcept {
    *to = static_cast<std::byte>(std::bit_cast<std::uint32_t>(of.scale) >> 23);
  }
  [[nodiscard]] static group_levels load(const std::byte* from) noexcept {
    const auto exponent = std::to_integer<std::int32_t>(*from);
    if (exponent == 255) return {.scale = std::numeric_limits<float>::quiet_NaN()};
    return {.scale = std::bit_cast<float>(exponent == 0 ? lowest : exponent << 23)};
  }
};

template <class Arch>
struct row_loops<Arch, mxfp4> : coded_loops<Arch, mxfp4, mxfp4_codec<Arch>> {};

}  // namespace klens::detail
