#pragma once

#include <cstddef>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// NVFP4: floats of 4 bits (E2M1), of which 16 consecutive ones of a row share a scale of 8 bits (E4M3), and a float above those.
/// A quantizer sees one row, so here each row has that float, which NVFP4 has once for a whole tensor:
///   row scale = max |w| of the row / 2688 (6 x 448), block scale = max |w| of the block / (6 row scale) to the nearest E4M3,
///   scale = block scale x row scale; code = w / scale to the nearest, halves to even, at most 6; kept = code scale
/// each quotient and product rounded to float. A tensor of one row is stored bit for bit as ModelOpt stores it. In one of many
/// rows their block scales are rounded elsewhere, by up to 1/16 as here, and where a whole row is so small beside the tensor that
/// its block scales are subnormal E4M3 (below 2^-15 of the largest) the tensor loses more than is measured here.
/// Edges      A block of zeros has the block scale 1, as in ModelOpt, and stays zeros; so does a row whose scale underflows. Where
///            a block scale rounds to 0 the codes are 0 (ModelOpt's are 6: both are kept as 0). The sign of zero is kept. The
///            last block of a row may be shorter. `kept` may be the weights themselves.
/// Storage    The codes, two in a byte, the first in the lower half, the sign in the highest bit; then a byte for each block,
///            its scale; then the row scale, a little-endian float without alignment.
/// Throws     numeric_error for a weight that is not finite and for a scale so large that a kept weight could leave the range
///            of float (`kept` or `packed` is then unspecified); shape_error where lengths do not fit.
/// Source     NVIDIA ModelOpt (qtensor/nvfp4_tensor.py).
struct nvfp4 {
  static constexpr std::size_t block = 16;

  [[nodiscard]] static constexpr const char* name() noexcept { return "nvfp4"; }
  [[nodiscard]] static constexpr scheme_parts parts() noexcept {
    return {.family = scheme_family::scaled_float, .bits = 4, .group_size = block};
  }

  /// Bytes of a stored row.
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t columns) noexcept {
    return columns == 0 ? 0 : (columns + 1) / 2 + (columns + block - 1) / block + 4;
  }

  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return detail::checked_round_trip(*this, weights, kept);
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const { detail::checked_pack(*this, weights, packed); }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const { detail::checked_unpack(*this, packed, kept); }

  [[nodiscard]] static constexpr std::size_t group_of(std::size_t /*columns*/) noexcept { return block; }
  [[nodiscard]] static constexpr float largest_scale() noexcept { return 0x1.fffffp127f / 6; }
  [[nodiscard]] static constexpr const char* limit_text() noexcept {
    return "with which kept weights could leave the range of float; use bf16";
  }
};
static_assert(packing_quantizer<nvfp4>);

}  // namespace klens

#if defined(KLENS_COMPILED)
#include <klens/quant/detail/compiled_loops.hpp>
#else
#include <klens/quant/detail/nvfp4_loops.hpp>
#endif
