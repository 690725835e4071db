#pragma once

#include <cstddef>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <limits>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// MXFP4: floats of 4 bits (E2M1), of which 32 consecutive ones of a row share a power of two (E8M0) as their scale.
///   scale = 2^(floor(log2 max |w|) - 2), at least 2^-127; code = w / scale to the nearest, halves to even, at most 6;
///   kept = code scale. All of it is exact.
/// Edges      Every finite weight can be stored. A block of zeros stays zeros. The sign of zero is kept. The last block of a row
///            may be shorter. `kept` may be the weights themselves.
/// Storage    The codes, two in a byte, the first in the lower half, the sign in the highest bit; then a byte for each block,
///            the scale's exponent plus 127. (255, which is never written, reads as NaN.)
/// Throws     numeric_error for a weight that is not finite (`kept` or `packed` is then unspecified); shape_error where lengths
///            do not fit.
/// Source     OCP Microscaling Formats (MX) 1.0, section 6.3.
struct mxfp4 {
  static constexpr std::size_t block = 32;

  [[nodiscard]] static constexpr const char* name() noexcept { return "mxfp4"; }
  [[nodiscard]] static constexpr scheme_parts parts() noexcept {
    return {.family = scheme_family::scaled_float, .bits = 4, .group_size = block};
  }

  /// Bytes of a stored row.
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t columns) noexcept {
    return (columns + 1) / 2 + (columns + block - 1) / block;
  }

  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return detail::checked_round_trip(*this, weights, kept);
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const { detail::checked_pack(*this, weights, packed); }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const { detail::checked_unpack(*this, packed, kept); }

  [[nodiscard]] static constexpr std::size_t group_of(std::size_t /*columns*/) noexcept { return block; }
  [[nodiscard]] static constexpr float largest_scale() noexcept { return std::numeric_limits<float>::max(); }
  [[nodiscard]] static constexpr const char* limit_text() noexcept { return "which cannot be stored"; }
};
static_assert(packing_quantizer<mxfp4>);

}  // namespace klens

#if defined(KLENS_COMPILED)
#include <klens/quant/detail/compiled_loops.hpp>
#else
#include <klens/quant/detail/mxfp4_loops.hpp>
#endif
