#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <span>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Floats of 16 bits, rounded to the nearest, halves to even; no scale. Use fp16 and bf16.
/// Edges      Subnormal numbers and the sign of zero are kept. `kept` may be the weights themselves.
/// Storage    Little-endian, two bytes a weight.
/// Throws     numeric_error for a weight that is not finite or would become infinite; shape_error where lengths do not fit.
template <class Stored>
struct short_float {
  static constexpr bool is_fp16 = std::is_same_v<Stored, half>;

  /// The first magnitude that would round to infinity.
  static constexpr float too_large = is_fp16 ? 65520.0f : 0x1.ffp127f;

  [[nodiscard]] static constexpr const char* name() noexcept { return is_fp16 ? "fp16" : "bf16"; }
  [[nodiscard]] static constexpr scheme_parts parts() noexcept { return {.family = scheme_family::floating_point, .bits = 16}; }

  [[nodiscard]] static constexpr const char* limit_text() noexcept {
    return is_fp16 ? "fp16 ends at 65504; use bf16" : "bf16 cannot hold it";
  }

  /// Bytes of a stored row.
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t columns) noexcept { return 2 * columns; }

  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return detail::checked_round_trip(*this, weights, kept);
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const { detail::checked_pack(*this, weights, packed); }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const { detail::checked_unpack(*this, packed, kept); }
};

/// IEEE binary16: up to 65504, 11 significant bits.
using fp16 = short_float<half>;
/// The upper half of a float: its range, 8 significant bits.
using bf16 = short_float<bfloat16>;
static_assert(packing_quantizer<fp16> && packing_quantizer<bf16>);

}  // namespace klens

#if defined(KLENS_COMPILED)
#include <klens/quant/detail/compiled_loops.hpp>
#else
#include <klens/quant/detail/float16_loops.hpp>
#endif
