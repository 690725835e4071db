#pragma once

#include <algorithm>
#include <cmath>
#include <klens/detail/instruction_set.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// ln(1 + s) - s for s > -1, without cancellation: -s^2/2 + s^3/3 - ... where s is small.
/// With z = s / (2 + s), ln(1 + s) = 2 atanh(z) and 2z - s = -s z exactly, so the linear terms never meet.
[[nodiscard]] inline double log1p_minus(double s) noexcept {
  if (std::abs(s) > 0.25) return std::log1p(s) - s;
  const double z = s / (2 + s);
  const double z2 = z * z;  // at most 1/49
  double tail = 1.0 / 19;
  for (int k = 17; k >= 3; k -= 2) tail = tail * z2 + 1.0 / k;
  return 2 * z * z2 * tail - s * z;
}

}  // namespace klens::detail

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A sweep's sums over tokens, divided by sum p, with d measured from any shift: mu = E_P[d], s = E_P[e^d] - 1 = mu + Phi.
///   ln sum e^y - ln sum e^x = shift + ln(1 + s)
///   KL(P || Q) = ln(1 + s) - mu = Phi - (s - ln(1 + s))             Phi = E_P[phi(d)] >= 0
///   KL(Q || P) = Psi / (1 + s) - (ln(1 + s) - s / (1 + s))          Psi = E_P[psi(d)] >= 0
/// The closer the shift is to the change of the partition function, the closer s is to 0 and the less is subtracted.
struct divergence_sums {
  double mu;
  double s;
  double phi;
  double psi;
  double kl;
  double reverse_kl;

  divergence_sums(double drift, double change, double of_phi, double of_psi) noexcept
      : mu(drift), s(change), phi(of_phi), psi(of_psi) {
    const double curvature = log1p_minus(s);  // <= 0
    kl = std::max(0.0, phi + curvature);
    reverse_kl = std::max(0.0, psi / (1 + s) - curvature - s * s / (1 + s));
  }

  /// Whether float lanes cost no more than a few 1e-6 of any result (of ln(1 + s) in units of min(1, spread)): neither by
  /// cancellation between its terms, nor, where the rows differ by a large common shift, by the rounding of y - x. `others` is
  /// the reference's mass beside its top token.
  [[nodiscard]] bool trustworthy(double shift, double others) const noexcept {
    if (!std::isfinite(phi) || !std::isfinite(psi) || !std::isfinite(s) || s <= -1) return false;
    const double spread = std::sqrt(2 * phi);
    const double path = std::min(spread + phi, 2 * std::log(2 + s) - mu);  // E|d| at most, whose rounding mu inherits
    const double forward = (phi + std::abs(s) * path) / (1 + s);
    const double backward = psi / (1 + s) + std::abs(psi + s) / ((1 + s) * (1 + s)) * (path + phi);
    const double of_difference =
        std::abs(shift) * 0x1p-24 * std::sqrt(others);  // root mean square of the rounding of d, at most
    const double by_shift = of_difference * std::min(of_difference + spread, 2.0);
    if (path + phi > 8 * (1 + s) * std::min(spread, 1.0)) return false;  // s = mu + phi, of which mu may be -phi
    const auto exact_enough = [&](double result, double roundings) {     // the rounding of a float sum is 2^-23
      return roundings <= 16 * result && (by_shift <= 4e-6 * result || by_shift <= 1e-16);
    };
    return exact_enough(kl, forward) && (psi == 0 || exact_enough(reverse_kl, backward));
  }
};

}  // namespace klens::detail
