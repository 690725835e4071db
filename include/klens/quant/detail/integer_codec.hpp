#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/half_rounding.hpp>
#include <klens/quant/detail/integer_rows.hpp>
#include <limits>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Floats near this one are whole numbers: adding it rounds, halves to even, and its own lowest bits are 0.
inline constexpr float whole_numbers = 0x1.8p23f;

/// The arithmetic of klens::integer, as group_rows.hpp asks for it. Bits and grid are run-time values: in the loops they cost
/// a branch that is always predicted. Codes go through the loops as floats without their zero point: whole multiples of the scale.
template <class Arch>
struct integer_codec {
  using floats = batch<float, Arch>;
  using integers = batch<std::int32_t, Arch>;

  integer_rows rows;

  [[nodiscard]] bool has_sign() const noexcept { return rows.grid != grid::absmax; }

  [[gnu::noinline]] void prepare(group_tile& tile, std::size_t groups, std::span<const float> /*weights*/) const noexcept {
    const floats zeros(0.0f), ones(1.0f), nan(std::numeric_limits<float>::quiet_NaN());
    const floats scale_steps(static_cast<float>(rows.steps())), highest(static_cast<float>(rows.highest()));
    for (std::size_t g = 0; g < groups; g += floats::size) {
      const integers above = integers::load_aligned(tile.above + g), below = integers::load_aligned(tile.below + g);
      floats range = from_bits(above) + from_bits(below);
      if (rows.grid == grid::signed_)  // the bits are compared, so that a NaN is the larger one
        range = from_bits(choose(below >= above, below, above ^ integers(~magnitude_bits)));
      const floats step = quotient(range, scale_steps);
      const auto vanished = step == zeros;
      const floats scale = xsimd::select(vanished, zeros, step);  // without a sign, which zeros would inherit
      const floats divisor = xsimd::select(vanished, ones, scale), magnitude = xsimd::abs(scale);
      const auto invertible = floats(0x1p-100f) < magnitude && magnitude < floats(0x1p100f);
      divisor.store_aligned(tile.divisor + g);
      xsimd::select(invertible, quotient(scale_steps, range), nan).store_aligned(tile.inverse + g);
      (rows.scale == scale_kind::f16 ? nearest_fp16(scale) : scale).store_aligned(tile.scale + g);
      floats zero = zeros;
      if (rows.is_asym())
        zero = xsimd::min(xsimd::to_float(xsimd::nearbyint_as_int(quotient(from_bits(below), divisor))), highest);
      zero.store_aligned(tile.zero + g);
    }
  }

  /// Codes come from a division, but most often a product with the inverse shows them as well: it differs from the quotient by
  /// less than 2^-13 (at most five roundings of numbers below 512), so only a guess that comes that close to a half has to be
  /// checked.
  template <class Vectors>
  [[nodiscard]] Vectors encode(const Vectors& weights, const group_levels& of) const noexcept {
    const floats inverse(of.inverse), rounder(whole_numbers + of.zero);
    Vectors steps;
    integers farthest(0);
    for (std::size_t k = 0; k < weights.size(); ++k) {
      steps[k] = xsimd::fma(weights[k], inverse, rounder) - rounder;
      const floats off = xsimd::fms(weights[k], inverse, steps[k]);
      farthest = xsimd::max(farthest, bits_of(off) & integers(magnitude_bits));  // so that a NaN is the largest
    }
    if (!xsimd::all(farthest < bits_of(floats(0.5f - 0x1p-12f)))) [[unlikely]]
      steps = divided(weights, of);
    if (rows.grid == grid::signed_) [[unlikely]]  // the other grids reach no further than their highest code
      for (floats& each : steps) each = xsimd::min(each, floats(static_cast<float>(rows.highest())));
    return steps;
  }

  // By value: with their address given to a function, the vectors could not stay in registers.
  template <class Vectors>
  [[nodiscard, gnu::noinline, gnu::cold]] Vectors divided(Vectors weights, group_levels of) const noexcept {
    const floats zero(of.zero);
    for (floats& each : weights) {
      const floats exact = quotient(each, floats(of.divisor)) + zero;
      const integers codes =
          xsimd::max(xsimd::min(xsimd::nearbyint_as_int(exact), integers(rows.highest())), integers(rows.lowest()));
      each = xsimd::to_float(codes) - zero;
    }
    return weights;
  }

  [[nodiscard]] static floats decode(const floats& steps, const group_levels& of) noexcept { return steps * floats(of.scale); }

  /// Stored codes are unsigned where there is a zero point, else in two's complement. Floats of the size of whole_numbers hold
  /// them in their lowest bits.
  [[nodiscard]] integers to_stored(const floats& steps, const group_levels& of) const noexcept {
    return bits_of(steps + floats(whole_numbers + of.zero)) & integers((1 << rows.bits) - 1);
  }
  [[nodiscard]] floats from_stored(const integers& stored, const group_levels& of) const noexcept {
    const std::int32_t sign = rows.is_asym() ? 0 : rows.half_range();
    const integers shifted(std::bit_cast<std::int32_t>(whole_numbers) | sign);
    return from_bits(stored ^ shifted) - (from_bits(shifted) + floats(of.zero));
  }
};

}  // namespace klens::detail
