#pragma once

#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/code_streams.hpp>
#include <klens/quant/detail/coded_loops.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/detail/small_floats.hpp>
#include <klens/quant/detail/value_codes.hpp>
#include <klens/quant/float8.hpp>
#include <span>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

template <int FractionBits>
using float8_number = std::conditional_t<FractionBits == 3, e4m3, e5m2>;

/// The arithmetic of a float8, as coded_loops.hpp asks for it. Codes go through the loops as the floats that they stand for.
template <class Arch, int FractionBits>
struct float8_codec : number_codes<Arch, float8_number<FractionBits>, 8> {
  using codes = number_codes<Arch, float8_number<FractionBits>, 8>;
  using number = float8_number<FractionBits>;
  using typename codes::floats;
  using typename codes::integers;
  static constexpr std::size_t usual_group = 0;
  static constexpr std::size_t scale_bytes = 4;

  float8<FractionBits> rows;

  [[gnu::noinline]] void prepare(group_tile& tile, std::size_t groups, std::span<const float> /*weights*/) const noexcept {
    for (std::size_t g = 0; g < groups; g += floats::size) {
      const floats scale = quotient(from_bits(integers::load_aligned(tile.above + g)), floats(number::largest));
      xsimd::select(scale == floats(0.0f), floats(1.0f), scale).store_aligned(tile.divisor + g);
      scale.store_aligned(tile.scale + g);
    }
  }

  template <class Vectors>
  [[nodiscard]] static Vectors encode(Vectors weights, const group_levels& of) noexcept {
    for (floats& each : weights) each = number::nearest(quotient(each, floats(of.divisor)));
    return weights;
  }

  static void store(const group_levels& of, std::byte* to) noexcept { store_scale(of.scale, scale_kind::f32, to); }
  [[nodiscard]] static group_levels load(const std::byte* from) noexcept {
    return {.scale = load_scale(scale_kind::f32, from)};
  }
};

template <class Arch, int FractionBits>
struct row_loops<Arch, float8<FractionBits>> : coded_loops<Arch, float8<FractionBits>, float8_codec<Arch, FractionBits>> {};

}  // namespace klens::detail
