#pragma once

#include <cstddef>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Floats of 8 bits with a scale in float for each row (channel). Use fp8_e4m3 and fp8_e5m2.
///   scale = max |w| / largest, code = w / scale to the nearest, halves to even, at most the largest; kept = code scale
/// where the largest is 448 for e4m3 and 57344 for e5m2. Both divisions and the product are rounded to float.
/// Edges      A row of zeros stays zeros, and so does one whose scale underflows. Subnormal numbers of 8 bits and the sign of
///            zero are kept. `kept` may be the weights themselves.
/// Storage    One byte a weight, then the scale, little-endian, without alignment. No code is an infinity or a NaN.
/// Throws     numeric_error for a weight that is not finite and for a scale so large that a kept weight could leave the range
///            of float (`kept` or `packed` is then unspecified); shape_error where lengths do not fit.
/// Source     the 8-bit formats: arXiv 2209.05433, and OCP OFP8 1.0; PyTorch's float8_e4m3fn and float8_e5m2. The scale: what
///            compressed-tensors and vLLM call channel-wise.
template <int FractionBits>
struct float8 {
  static_assert(FractionBits == 2 || FractionBits == 3);
  static constexpr int fraction_bits = FractionBits;
  static constexpr float largest = FractionBits == 3 ? 448.0f : 57344.0f;

  [[nodiscard]] static constexpr const char* name() noexcept {
    return FractionBits == 3 ? "fp8-e4m3-channel" : "fp8-e5m2-channel";
  }
  [[nodiscard]] static constexpr scheme_parts parts() noexcept {
    return {.family = scheme_family::scaled_float, .bits = 8, .scale = scale_kind::f32};
  }

  /// Bytes of a stored row.
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t columns) noexcept { return columns == 0 ? 0 : columns + 4; }

  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return detail::checked_round_trip(*this, weights, kept);
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const { detail::checked_pack(*this, weights, packed); }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const { detail::checked_unpack(*this, packed, kept); }

  [[nodiscard]] static constexpr std::size_t group_of(std::size_t columns) noexcept { return columns; }
  [[nodiscard]] static constexpr float largest_scale() noexcept { return 0x1.fffffp127f / largest; }
  [[nodiscard]] static constexpr const char* limit_text() noexcept {
    return "with which kept weights could leave the range of float; use bf16";
  }
};

using fp8_e4m3 = float8<3>;  ///< up to 448, 4 significant bits
using fp8_e5m2 = float8<2>;  ///< up to 57344, 3 significant bits
static_assert(packing_quantizer<fp8_e4m3> && packing_quantizer<fp8_e5m2>);

}  // namespace klens

#if defined(KLENS_COMPILED)
#include <klens/quant/detail/compiled_loops.hpp>
#else
#include <klens/quant/detail/float8_loops.hpp>
#endif
