#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/detail/simd.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/detail/error_sums.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/half_rounding.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/float16.hpp>
#include <span>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

template <class Arch, class Stored>
struct row_loops<Arch, short_float<Stored>> {
  using rows_type = short_float<Stored>;

  [[gnu::flatten]] static weight_error round_trip(const rows_type&, std::span<const float> weights, std::span<float> kept) {
    const bool wide = error_sums<Arch>::are_wide(batch<std::int32_t, Arch>(checked_largest(weights)));
    error_sums<Arch> sums;
    sums.sweep(weights, kept.data(), wide, [](auto some) {
      for (auto& each : some) each = nearest(each);
      return some;
    });
    return sums.total();
  }

  static void pack(const rows_type&, std::span<const float> weights, std::byte* packed) {
    checked_largest(weights);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const auto stored = static_cast<Stored>(weights[i]);
      std::memcpy(packed + 2 * i, &stored, 2);
    }
  }

  static void unpack(const rows_type&, const std::byte* packed, std::span<float> kept) {
    for (std::size_t i = 0; i < kept.size(); ++i) {
      Stored stored;
      std::memcpy(&stored, packed + 2 * i, 2);
      kept[i] = static_cast<float>(stored);
    }
  }

 private:
  /// Bits of the first magnitude that would round to infinity.
  static constexpr auto too_large = std::bit_cast<std::int32_t>(rows_type::too_large);

  [[gnu::noinline, gnu::flatten]] static std::int32_t checked_largest(std::span<const float> weights) {
    const std::int32_t largest = largest_of(extent_of<Arch, false>(weights).above);
    if (largest >= too_large) [[unlikely]]
      refuse(weights);
    return largest;
  }

  [[noreturn, gnu::noinline, gnu::cold]] static void refuse(std::span<const float> weights) {
    const auto fits = [](float w) { return std::abs(w) < rows_type::too_large; };  // false for a NaN
    const auto at = std::find_if_not(weights.begin(), weights.end(), fits);
    refuse_weight(rows_type::name(), *at, static_cast<std::size_t>(at - weights.begin()),
                  rows_type::is_fp16 ? "fp16 ends at 65504; use bf16" : "bf16 cannot hold it");
  }

  [[nodiscard]] static batch<float, Arch> nearest(const batch<float, Arch>& weights) noexcept {
    if constexpr (rows_type::is_fp16) return nearest_fp16(weights);
    return nearest_bf16(weights);
  }
};

}  // namespace klens::detail
