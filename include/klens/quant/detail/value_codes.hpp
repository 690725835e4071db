#pragma once

#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/group_rows.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The part of a codec (coded_loops.hpp) whose codes go through the loops as the values that they stand for: kept weights are
/// these times the scale.
template <class Arch>
struct value_codes {
  using floats = batch<float, Arch>;
  using integers = batch<std::int32_t, Arch>;

  [[nodiscard]] static constexpr bool has_sign() noexcept { return false; }
  [[nodiscard]] static floats decode(const floats& values, const group_levels& of) noexcept {
    return rounded(values * floats(of.scale));
  }
};

/// The same for numbers of a small_float, stored in `Bits` bits.
template <class Arch, class Number, int Bits>
struct number_codes : value_codes<Arch> {
  using typename value_codes<Arch>::floats;
  using typename value_codes<Arch>::integers;
  static constexpr int bits = Bits;

  [[nodiscard]] static integers to_stored(const floats& values, const group_levels& /*of*/) noexcept {
    return Number::template to_stored<Bits>(values);
  }
  [[nodiscard]] static floats from_stored(const integers& stored, const group_levels& /*of*/) noexcept {
    return Number::template from_stored<Bits>(stored);
  }
};

}  // namespace klens::detail
