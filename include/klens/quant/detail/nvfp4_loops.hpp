#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/code_streams.hpp>
#include <klens/quant/detail/coded_loops.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/detail/small_floats.hpp>
#include <klens/quant/detail/value_codes.hpp>
#include <klens/quant/nvfp4.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The arithmetic of nvfp4, as coded_loops.hpp asks for it. Codes go through the loops as the floats that they stand for; the
/// level `zero` of a group is its scale in E4M3.
template <class Arch>
struct nvfp4_codec : number_codes<Arch, e2m1, 4> {
  using codes = number_codes<Arch, e2m1, 4>;
  using typename codes::floats;
  using typename codes::integers;
  static constexpr std::size_t usual_group = 16;
  static constexpr std::size_t scale_bytes = 1;

  /// What to divide by where the scale is 0, so that all codes are: weights that small lie below 2^110.
  static constexpr float no_scale = 0x1p124f;

  nvfp4 rows;
  float row_scale = 0;

  [[gnu::noinline, gnu::flatten]] void measure_row(std::span<const float> weights) noexcept {
    const auto largest = std::bit_cast<float>(largest_of(extent_of<Arch, false>(weights).above));
    row_scale = is_finite(largest) ? largest / (e2m1::largest * e4m3::largest) : 1.0f;  // else only its own block is to blame
  }

  [[gnu::noinline]] void prepare(group_tile& tile, std::size_t groups, std::span<const float> /*weights*/) const noexcept {
    const floats zeros(0.0f), ones(1.0f), by(row_scale);
    const floats full = rounded(by * floats(e2m1::largest));
    for (std::size_t g = 0; g < groups; g += floats::size) {
      const floats largest = from_bits(integers::load_aligned(tile.above + g));
      const floats nearest = e4m3::nearest(quotient(largest, full));
      const floats of_block = xsimd::select(largest == zeros || by == zeros, ones, nearest);
      const floats scale = rounded(of_block * by);
      const floats divisor = xsimd::select(scale == zeros, floats(no_scale), scale);
      const integers magnitude = bits_of(largest);  // of an infinity or a NaN it is the divisor, and no group has such a one
      from_bits(choose(magnitude > integers(0x7f7fffff), magnitude, bits_of(divisor))).store_aligned(tile.divisor + g);
      scale.store_aligned(tile.scale + g);
      of_block.store_aligned(tile.zero + g);
    }
  }

  template <class Vectors>
  [[nodiscard]] static Vectors encode(Vectors weights, const group_levels& of) noexcept {
    for (floats& each : weights) each = e2m1::nearest(quotient(each, floats(of.divisor)));
    return weights;
  }

  static void store(const group_levels& of, std::byte* to) noexcept {
    *to = static_cast<std::byte>(largest_of(e4m3::template to_stored<8>(floats(of.zero))));
  }
  [[nodiscard]] group_levels load(const std::byte* from) const noexcept {
    const floats of_block = e4m3::template from_stored<8>(integers(std::to_integer<std::int32_t>(*from)));
    return {.scale = first_of(rounded(of_block * floats(row_scale)))};
  }

  static constexpr std::size_t row_bytes = 4;
  void store_row(std::byte* to) const noexcept { store_scale(row_scale, scale_kind::f32, to); }
  void load_row(const std::byte* from) noexcept { row_scale = load_scale(scale_kind::f32, from); }

 private:
  [[nodiscard]] static float first_of(const floats& values) noexcept {
    alignas(floats) float all[floats::size];
    values.store_aligned(all);
    return all[0];
  }
};

template <class Arch>
struct row_loops<Arch, nvfp4> : coded_loops<Arch, nvfp4, nvfp4_codec<Arch>> {};

}  // namespace klens::detail
