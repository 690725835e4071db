#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/matrix.hpp>
#include <klens/quant/detail/error_sums.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/half_rounding.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/quantizer.hpp>
#include <span>
#include <string>
#include <type_traits>

namespace klens {

/// Floats of 16 bits, rounded to the nearest, halves to even; no scale. Use fp16 and bf16.
/// Edges      Subnormal numbers and the sign of zero are kept. `kept` may be the weights themselves.
/// Storage    Little-endian, two bytes a weight.
/// Throws     numeric_error for a weight that is not finite or would become infinite; shape_error where lengths do not fit.
template <class Stored>
struct short_float {
  static constexpr bool is_fp16 = std::is_same_v<Stored, half>;

  [[nodiscard]] static constexpr const char* name() noexcept { return is_fp16 ? "fp16" : "bf16"; }

  /// Bytes of a stored row.
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t columns) noexcept { return 2 * columns; }

  template <class Arch = detail::best_arch>
  [[gnu::flatten]] weight_error round_trip(std::span<const float> weights, std::span<float> kept,
                                           bool streaming = false) const {
    detail::expect_length(*this, "kept", kept.size(), weights.size());
    const bool wide = detail::error_sums<Arch>::are_wide(detail::batch<std::int32_t, Arch>(checked_largest<Arch>(weights)));
    detail::error_sums<Arch> sums;
    sums.sweep(weights, kept.data(), wide, streaming && detail::can_stream<Arch>(kept.data(), 0), [](auto some) {
      for (auto& each : some) each = nearest(each);
      return some;
    });
    return sums.total();
  }

  template <class Arch = detail::best_arch>
  [[gnu::flatten]] void pack(std::span<const float> weights, std::span<std::byte> packed) const {
    detail::expect_length(*this, "packed", packed.size(), bytes(weights.size()));
    checked_largest<Arch>(weights);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const auto stored = static_cast<Stored>(weights[i]);
      std::memcpy(&packed[2 * i], &stored, 2);
    }
  }

  void unpack(std::span<const std::byte> packed, std::span<float> kept) const {
    detail::expect_length(*this, "packed", packed.size(), bytes(kept.size()));
    for (std::size_t i = 0; i < kept.size(); ++i) {
      Stored stored;
      std::memcpy(&stored, &packed[2 * i], 2);
      kept[i] = static_cast<float>(stored);
    }
  }

 private:
  /// Bits of the first magnitude that would round to infinity: 65520, 2^128 - 2^119.
  static constexpr std::int32_t too_large = is_fp16 ? 0x477ff000 : 0x7f7f8000;

  template <class Arch>
  static std::int32_t checked_largest(std::span<const float> weights) {
    const std::int32_t largest = detail::largest_of(detail::extent_of<Arch, false>(weights).above);
    if (largest >= too_large) [[unlikely]]
      refuse(weights);
    return largest;
  }

  [[noreturn, gnu::noinline, gnu::cold]] static void refuse(std::span<const float> weights) {
    const auto fits = [](float w) { return std::abs(w) < std::bit_cast<float>(too_large); };  // false for a NaN
    const auto at = std::find_if_not(weights.begin(), weights.end(), fits);
    detail::refuse_weight(name(), *at, static_cast<std::size_t>(at - weights.begin()),
                          is_fp16 ? "fp16 ends at 65504; use bf16" : "bf16 cannot hold it");
  }

  template <class Arch>
  [[nodiscard]] static detail::batch<float, Arch> nearest(const detail::batch<float, Arch>& weights) noexcept {
    if constexpr (is_fp16) return detail::nearest_fp16(weights);
    return detail::nearest_bf16(weights);
  }
};

/// IEEE binary16: up to 65504, 11 significant bits.
using fp16 = short_float<half>;
/// The upper half of a float: its range, 8 significant bits.
using bf16 = short_float<bfloat16>;
static_assert(packing_quantizer<fp16> && packing_quantizer<bf16>);

}  // namespace klens
