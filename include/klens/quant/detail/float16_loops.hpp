#pragma once

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

  [[nodiscard, gnu::flatten]] static unstorable round_trip(const rows_type&, std::span<const float> weights,
                                                           std::span<float> kept, weight_error& error) noexcept {
    const std::int32_t largest = largest_magnitude(weights);
    if (largest >= too_large) [[unlikely]]
      return first_too_large(weights);
    const bool wide = error_sums<Arch>::are_wide(batch<std::int32_t, Arch>(largest));
    error_sums<Arch> sums;
    sums.sweep(weights, kept.data(), wide, [](auto some) {
      for (auto& each : some) each = nearest(each);
      return some;
    });
    error = sums.total();
    return {};
  }

  [[nodiscard]] static unstorable pack(const rows_type&, std::span<const float> weights, std::byte* packed) noexcept {
    if (largest_magnitude(weights) >= too_large) [[unlikely]]
      return first_too_large(weights);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const auto stored = static_cast<Stored>(weights[i]);
      std::memcpy(packed + 2 * i, &stored, 2);
    }
    return {};
  }

  static void unpack(const rows_type&, const std::byte* packed, std::span<float> kept) noexcept {
    for (std::size_t i = 0; i < kept.size(); ++i) {
      Stored stored;
      std::memcpy(&stored, packed + 2 * i, 2);
      kept[i] = static_cast<float>(stored);
    }
  }

 private:
  /// Bits of the first magnitude that would round to infinity.
  static constexpr auto too_large = std::bit_cast<std::int32_t>(rows_type::too_large);

  [[nodiscard, gnu::noinline, gnu::flatten]] static std::int32_t largest_magnitude(std::span<const float> weights) noexcept {
    return largest_of(extent_of<Arch, false>(weights).above);
  }

  [[nodiscard, gnu::noinline, gnu::cold]] static unstorable first_too_large(std::span<const float> weights) noexcept {
    std::size_t i = 0;
    while (std::abs(weights[i]) < rows_type::too_large) ++i;  // stops at a NaN, too
    return {.first = i, .count = 1};
  }

  [[nodiscard]] static batch<float, Arch> nearest(const batch<float, Arch>& weights) noexcept {
    if constexpr (rows_type::is_fp16) return nearest_fp16(weights);
    return nearest_bf16(weights);
  }
};

}  // namespace klens::detail
