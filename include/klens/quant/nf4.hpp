#pragma once

#include <cstddef>
#include <klens/quant/detail/integer_rows.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// NormalFloat of 4 bits: the quantiles of a normal distribution, stretched by the largest magnitude of each group of consecutive
/// columns of a row. bitsandbytes without double quantization, bit for bit.
///   scale = max |w|, x = w times the rounded 1 / max(scale, 1e-38), code = how many of the 15 bounds half way between
///   neighbours in nf4::values lie below x, kept = values[code] scale
/// Edges      Every finite weight can be stored. A group of zeros stays zeros, which have no sign. The last group of a row may
///            be shorter. `kept` may be the weights themselves.
/// Storage    The codes, two in a byte, the first in the upper half, as bitsandbytes has them; then the scales, one a group,
///            little-endian floats without alignment.
/// Throws     numeric_error for a weight that is not finite (`kept` or `packed` is then unspecified); shape_error where lengths
///            do not fit.
/// Source     QLoRA, arXiv 2305.14314; the values and bounds are those of bitsandbytes (create_quantized_map, dQuantizeNF4).
struct nf4 {
  static constexpr float values[16] = {-1.0f,
                                       -0.6961928009986877f,
                                       -0.5250730514526367f,
                                       -0.39491748809814453f,
                                       -0.28444138169288635f,
                                       -0.18477343022823334f,
                                       -0.09105003625154495f,
                                       0.0f,
                                       0.07958029955625534f,
                                       0.16093020141124725f,
                                       0.24611230194568634f,
                                       0.33791524171829224f,
                                       0.44070982933044434f,
                                       0.5626170039176941f,
                                       0.7229568362236023f,
                                       1.0f};

  std::size_t group_size = 64;  ///< columns that share a scale; 0: the whole row

  static constexpr const char* grammar = "nf4-<channel|g<columns>>";

  /// That of a name, if it is one of these.
  [[nodiscard]] static std::optional<nf4> from_name(std::string_view name) {
    if (!name.starts_with("nf4")) return std::nullopt;
    name.remove_prefix(3);
    const std::optional<std::size_t> group = detail::take_group(name);
    return group && name.empty() ? std::optional{nf4{*group}} : std::nullopt;
  }

  [[nodiscard]] std::string name() const { return "nf4" + detail::group_name(group_size); }
  [[nodiscard]] scheme_parts parts() const noexcept {
    return {.family = scheme_family::table, .bits = 4, .group_size = group_size, .scale = scale_kind::f32};
  }

  /// Bytes of a stored row.
  [[nodiscard]] std::size_t bytes(std::size_t columns) const noexcept {
    return columns == 0 ? 0 : (columns + 1) / 2 + ((columns - 1) / group_of(columns) + 1) * 4;
  }

  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return detail::checked_round_trip(*this, weights, kept);
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const { detail::checked_pack(*this, weights, packed); }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const { detail::checked_unpack(*this, packed, kept); }

  [[nodiscard]] std::size_t group_of(std::size_t columns) const noexcept { return group_size == 0 ? columns : group_size; }
  [[nodiscard]] static constexpr float largest_scale() noexcept { return std::numeric_limits<float>::max(); }
  [[nodiscard]] static constexpr const char* limit_text() noexcept { return "which cannot be stored"; }
};
static_assert(packing_quantizer<nf4>);

}  // namespace klens

#if defined(KLENS_COMPILED)
#include <klens/quant/detail/compiled_loops.hpp>
#else
#include <klens/quant/detail/nf4_loops.hpp>
#endif
