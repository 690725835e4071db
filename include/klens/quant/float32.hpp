#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <klens/detail/float_bits.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Floats of 32 bits: the weights as they are, bit for bit. What a plan falls back to where no smaller scheme holds them.
/// Storage    Little-endian, four bytes a weight.
/// Throws     numeric_error for a weight that is not finite; shape_error where lengths do not fit.
struct f32 {
  [[nodiscard]] static constexpr const char* name() noexcept { return "f32"; }
  [[nodiscard]] static constexpr scheme_parts parts() noexcept { return {.family = scheme_family::floating_point, .bits = 32}; }
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t columns) noexcept { return 4 * columns; }

  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    detail::expect_length(*this, "kept", kept.size(), weights.size());
    expect_finite(weights);
    std::copy(weights.begin(), weights.end(), kept.begin());  // forwards: also onto themselves
    double energy = 0;
    for (const float w : weights) energy += static_cast<double>(w) * static_cast<double>(w);
    return {.energy = energy};
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const {
    detail::expect_length(*this, "packed", packed.size(), bytes(weights.size()));
    expect_finite(weights);
    std::copy_n(std::as_bytes(weights).begin(), packed.size(), packed.begin());
  }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const {
    detail::expect_length(*this, "packed", packed.size(), bytes(kept.size()));
    std::copy_n(packed.begin(), packed.size(), std::as_writable_bytes(kept).begin());
  }

 private:
  static void expect_finite(std::span<const float> weights) {
    const auto bad = std::find_if_not(weights.begin(), weights.end(), [](float w) { return detail::is_finite(w); });
    if (bad != weights.end())
      detail::refuse_weight(name(), *bad, static_cast<std::size_t>(bad - weights.begin()), "only finite weights can be stored");
  }
};
static_assert(packing_quantizer<f32>);

}  // namespace klens
