#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/half_rounding.hpp>
#include <klens/quant/grid.hpp>
#include <limits>
#include <span>
#include <string>

namespace klens::detail {

[[nodiscard, gnu::cold]] inline std::string integer_name(int bits, grid where, std::size_t group_size, scale_kind stored_as) {
  std::string name = "int";
  name += std::to_string(bits);
  name += where == grid::absmax ? "" : where == grid::signed_ ? "-signed" : "-asym";
  name += group_size == 0 ? "-channel" : "-g" + std::to_string(group_size);
  return name += stored_as == scale_kind::f32 ? "-s32" : "";
}

/// Floats near this one are whole numbers: adding it rounds, halves to even, and its own lowest bits are 0.
inline constexpr float whole_numbers = 0x1.8p23f;

/// The arithmetic of klens::integer, as group_rows.hpp wants it. The number of bits is a run-time value, which costs nothing
/// in the loops and saves most of the code.
template <grid Grid>
struct integer_codec {
  int bits;
  std::size_t group_size;
  scale_kind stored_as;

  [[nodiscard]] std::string name() const { return integer_name(bits, Grid, group_size, stored_as); }

  static constexpr bool has_sign = Grid != grid::absmax;
  [[nodiscard]] int half_range() const noexcept { return 1 << (bits - 1); }
  [[nodiscard]] int lowest() const noexcept {
    return Grid == grid::asym ? 0 : Grid == grid::signed_ ? -half_range() : 1 - half_range();
  }
  [[nodiscard]] int highest() const noexcept { return Grid == grid::asym ? 2 * half_range() - 1 : half_range() - 1; }

  /// How many steps of a scale make up what it is stretched over.
  [[nodiscard]] int steps() const noexcept { return Grid == grid::signed_ ? half_range() : highest(); }

  [[nodiscard]] float largest_scale() const noexcept {
    return stored_as == scale_kind::f16 ? largest_fp16_scale : 0x1.fffffp127f / static_cast<float>(steps());
  }
  [[nodiscard, gnu::cold]] std::string limit_text() const {
    return stored_as == scale_kind::f16 ? "and fp16 ends at 65504; store it in float: " + name() + "-s32"
                                        : "with which kept weights could leave the range of float; use bf16";
  }

  template <class Arch>
  void prepare(group_tile& tile, std::size_t groups, std::span<const float> /*row*/) const noexcept {
    using floats = batch<float, Arch>;
    using integers = batch<std::int32_t, Arch>;
    const floats zeros(0.0f), ones(1.0f), nan(std::numeric_limits<float>::quiet_NaN());
    const floats scale_steps(static_cast<float>(steps())), highest_code(static_cast<float>(highest()));
    for (std::size_t g = 0; g < groups; g += floats::size) {
      const integers above = integers::load_aligned(tile.above + g), below = integers::load_aligned(tile.below + g);
      floats range = from_bits(above) + from_bits(below);
      if constexpr (Grid == grid::signed_)  // the bits are compared, so that a NaN is the larger one
        range = from_bits(choose(below >= above, below, above ^ integers(~magnitude_bits)));
      const floats step = quotient(range, scale_steps);
      const auto vanished = step == zeros;
      const floats scale = xsimd::select(vanished, zeros, step);  // without a sign, which zeros would inherit
      const floats divisor = xsimd::select(vanished, ones, scale), magnitude = xsimd::abs(scale);
      const auto invertible = floats(0x1p-100f) < magnitude && magnitude < floats(0x1p100f);
      divisor.store_aligned(tile.divisor + g);
      xsimd::select(invertible, quotient(scale_steps, range), nan).store_aligned(tile.inverse + g);
      (stored_as == scale_kind::f16 ? nearest_fp16(scale) : scale).store_aligned(tile.scale + g);
      if constexpr (Grid == grid::asym) {
        const floats zero = xsimd::to_float(xsimd::nearbyint_as_int(quotient(from_bits(below), divisor)));
        xsimd::min(zero, highest_code).store_aligned(tile.zero + g);
      }
    }
  }

  // Codes go through the kernels as floats, without their zero point: whole numbers of scales.

  [[nodiscard]] static float zero_of(const group_levels& levels) noexcept { return Grid == grid::asym ? levels.zero : 0; }

  /// They come from a division, but most often a product with the inverse shows them as well: it differs from the quotient by
  /// less than 2^-13 (at most five roundings of numbers below 512), so only a guess that comes that close to a half has to be
  /// checked.
  template <class Vectors>
  [[nodiscard]] Vectors encode(const Vectors& weights, const group_levels& of) const noexcept {
    using floats = typename Vectors::value_type;
    using integers = decltype(bits_of(weights[0]));
    const floats inverse(of.inverse), rounder(whole_numbers + zero_of(of));
    Vectors steps;
    integers farthest(0);
    for (std::size_t k = 0; k < weights.size(); ++k) {
      steps[k] = xsimd::fma(weights[k], inverse, rounder) - rounder;
      const floats off = xsimd::fms(weights[k], inverse, steps[k]);
      farthest = xsimd::max(farthest, bits_of(off) & integers(magnitude_bits));  // so that a NaN is the largest
    }
    if (!xsimd::all(farthest < bits_of(floats(0.5f - 0x1p-12f)))) [[unlikely]]
      for (std::size_t k = 0; k < weights.size(); ++k) steps[k] = divided(weights[k], of);
    if constexpr (Grid == grid::signed_)
      for (floats& each : steps) each = xsimd::min(each, floats(static_cast<float>(highest())));
    return steps;
  }

  template <class Arch>
  [[nodiscard, gnu::noinline, gnu::cold]] batch<float, Arch> divided(batch<float, Arch> weights,
                                                                     group_levels of) const noexcept {
    using integers = batch<std::int32_t, Arch>;
    const batch<float, Arch> zero(zero_of(of)), exact = quotient(weights, batch<float, Arch>(of.divisor)) + zero;
    const integers codes = xsimd::max(xsimd::min(xsimd::nearbyint_as_int(exact), integers(highest())), integers(lowest()));
    return xsimd::to_float(codes) - zero;
  }

  template <class Vector>
  [[nodiscard]] static Vector decode(const Vector& steps, const group_levels& of) noexcept {
    return steps * Vector(of.scale);
  }

  /// Stored codes are of two's complement where they have a sign. Floats of this size hold them in their lowest bits.
  template <class Arch>
  [[nodiscard]] batch<std::int32_t, Arch> to_stored(const batch<float, Arch>& steps, const group_levels& of) const noexcept {
    return bits_of(steps + batch<float, Arch>(whole_numbers + zero_of(of))) & batch<std::int32_t, Arch>((1 << bits) - 1);
  }
  template <class Arch>
  [[nodiscard]] batch<float, Arch> from_stored(const batch<std::int32_t, Arch>& stored, const group_levels& of) const noexcept {
    const std::int32_t sign = Grid == grid::asym ? 0 : 1 << (bits - 1);
    const batch<std::int32_t, Arch> shifted(std::bit_cast<std::int32_t>(whole_numbers) | sign);
    batch<float, Arch> from(from_bits(shifted));
    if constexpr (Grid == grid::asym) from = from + batch<float, Arch>(of.zero);
    return from_bits(stored ^ shifted) - from;
  }
};

}  // namespace klens::detail
