#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/half_rounding.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Floats of a few bits: a sign, an exponent, and `Fraction` bits behind the point. Numbers below 2^Least are subnormal, spaced
/// 2^(Least - Fraction); the largest finite one is `Largest`, in whole numbers. Nothing here is computed with floats that are
/// subnormal themselves, so a processor that flushes them gives the same bits.
template <int Fraction, int Least, int Largest>
struct small_float {
  static constexpr float largest = static_cast<float>(Largest);

  /// The nearest numbers, halves to even; from the largest on, the largest. Finite values only.
  template <class Arch>
  [[nodiscard]] static batch<float, Arch> nearest(const batch<float, Arch>& values) noexcept {
    using integers = batch<std::int32_t, Arch>;
    const integers bits = bits_of(values);
    const integers magnitude = xsimd::min(bits & integers(magnitude_bits), integers(std::bit_cast<std::int32_t>(largest)));
    const batch<float, Arch> spaced(as_far_apart);
    const integers subnormal = bits_of((from_bits(magnitude) + spaced) - spaced);
    const integers nearest = choose(magnitude < integers(least_normal), subnormal, drop_bits<dropped>(magnitude));
    return from_bits(nearest | (bits & integers(~magnitude_bits)));
  }

  /// One of these numbers as it is stored, the sign in the highest of `Bits` bits, and back.
  template <int Bits, class Arch>
  [[nodiscard]] static batch<std::int32_t, Arch> to_stored(const batch<float, Arch>& values) noexcept {
    using integers = batch<std::int32_t, Arch>;
    const integers bits = bits_of(values), magnitude = bits & integers(magnitude_bits);
    const integers subnormal = bits_of(from_bits(magnitude) + batch<float, Arch>(as_far_apart)) - integers(first_of_spaced);
    const integers normal = (magnitude >> dropped) - integers(exponents_below);
    const integers sign = choose(bits < integers(0), integers(1 << (Bits - 1)), integers(0));
    return choose(magnitude < integers(least_normal), subnormal, normal) | sign;
  }
  template <int Bits, class Arch>
  [[nodiscard]] static batch<float, Arch> from_stored(const batch<std::int32_t, Arch>& stored) noexcept {
    using integers = batch<std::int32_t, Arch>;
    const integers code = stored & integers((1 << (Bits - 1)) - 1);
    const integers subnormal = bits_of(from_bits(code + integers(first_of_spaced)) - batch<float, Arch>(as_far_apart));
    const integers normal = (code + integers(exponents_below)) << dropped;
    const integers sign = choose(code == stored, integers(0), integers(~magnitude_bits));
    return from_bits(choose(code < integers(1 << Fraction), subnormal, normal) | sign);
  }

 private:
  static constexpr int dropped = 23 - Fraction;  // bits of a float's fraction that have no room
  static constexpr std::int32_t least_normal = (127 + Least) << 23;
  static constexpr std::int32_t exponents_below = (127 + Least - 1) << Fraction;

  /// Floats from this one to twice as much are as far apart as the subnormal numbers.
  static constexpr std::int32_t first_of_spaced = (127 + Least + dropped) << 23;
  static constexpr float as_far_apart = std::bit_cast<float>(first_of_spaced);
};

using e4m3 = small_float<3, -6, 448>;     // no infinities, and a code less for NaN
using e5m2 = small_float<2, -14, 57344>;  // like fp16
using e2m1 = small_float<1, 0, 6>;        // neither infinities nor NaN

}  // namespace klens::detail
