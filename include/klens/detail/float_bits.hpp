#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <klens/detail/instruction_set.hpp>
#include <limits>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The bits of a number without its sign.
template <std::floating_point Float>
[[nodiscard]] constexpr auto magnitude_of(Float value) noexcept {
  using bits = std::conditional_t<sizeof(Float) == 4, std::uint32_t, std::uint64_t>;
  return static_cast<bits>(std::bit_cast<bits>(value) << 1);
}

template <std::floating_point Float>
inline constexpr auto infinite_magnitude = static_cast<decltype(magnitude_of(Float{}))>(~decltype(magnitude_of(Float{})){0}
                                                                                        << std::numeric_limits<Float>::digits);

// What a number is, told from its bits: with -ffast-math, which users of klens::compiled may set, compilers replace
// std::isnan by false and std::isfinite by true.

template <std::floating_point Float>
[[nodiscard]] constexpr bool is_nan(Float value) noexcept {
  return magnitude_of(value) > infinite_magnitude<Float>;
}
template <std::floating_point Float>
[[nodiscard]] constexpr bool is_infinite(Float value) noexcept {
  return magnitude_of(value) == infinite_magnitude<Float>;
}
template <std::floating_point Float>
[[nodiscard]] constexpr bool is_finite(Float value) noexcept {
  return magnitude_of(value) < infinite_magnitude<Float>;
}

}  // namespace klens::detail
