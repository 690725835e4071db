#pragma once

#include <cmath>

namespace klens {

/// What a round trip did to weights w, with kept values v. Sums over disjoint parts add up.
struct weight_error {
  double energy = 0;         ///< sum w^2
  double squared_error = 0;  ///< sum (v - w)^2

  weight_error& operator+=(const weight_error& other) noexcept {
    energy += other.energy;
    squared_error += other.squared_error;
    return *this;
  }
};

/// Signal to quantization noise of weights, in dB; lower is worse, +inf where nothing changed (also where there are no
/// weights).
[[nodiscard]] inline double sqnr_db(const weight_error& of) noexcept {
  return of.squared_error == 0 ? INFINITY : 10 * std::log10(of.energy / of.squared_error);
}

}  // namespace klens
