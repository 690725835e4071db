#pragma once

#include <klens/detail/exp.hpp>
#include <klens/detail/simd.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Two functions of a token's difference d, both >= 0, of which divergences are sums with weights p:
///   phi(d) = e^d - 1 - d
///   psi(d) = d e^d - e^d + 1 = d^2 - (1 - d) phi(d)
/// The definitions themselves serve where |d| is large. Damage by 4 bits seldom goes further than this switch, and if it did in
/// 1 % of the tokens, every vector would have one.
inline constexpr float small_difference = 1.5f;

/// phi(d) / d^2 for |d| <= small_difference, to 1.8e-7; d^2 is a factor apart so that nothing cancels.
template <class Arch>
[[nodiscard]] inline batch<float, Arch> phi_ratio(const batch<float, Arch>& d) noexcept {
  using vector = batch<float, Arch>;
  vector ratio = xsimd::fma(vector(2.79255414e-6f), d, vector(2.60521283e-5f));
  ratio = xsimd::fma(ratio, d, vector(1.98554582e-4f));
  ratio = xsimd::fma(ratio, d, vector(1.38715445e-3f));
  ratio = xsimd::fma(ratio, d, vector(8.33306927e-3f));
  ratio = xsimd::fma(ratio, d, vector(4.16674241e-2f));
  ratio = xsimd::fma(ratio, d, vector(0.166666761f));
  return xsimd::fma(ratio, d, vector(0.49999994f));
}

/// Jensen-Shannon: (p ln(p/m) + q ln(q/m)) / 2 with m = (p + q) / 2, for each token of a vector, >= 0.
///   = p e^h (h sinh h - cosh h ln cosh h) with h = d/2                          (|d| <= 1: p d^2 times a polynomial, to 2e-8)
///   = max(p, q)/2 ((1 + r) (ln 2 - ln(1 + r)) - r |d|) with r = e^-|d|          (larger: no term is much larger than the sum)
template <class Arch>
[[nodiscard]] inline batch<float, Arch> js_terms(const batch<float, Arch>& p, const batch<float, Arch>& q,
                                                 const batch<float, Arch>& d) noexcept {
  using vector = batch<float, Arch>;
  vector ratio = xsimd::fma(vector(1.08325785e-5f), d, vector(8.65574184e-5f));
  ratio = xsimd::fma(ratio, d, vector(4.34024463e-4f));
  ratio = xsimd::fma(ratio, d, vector(2.60425499e-3f));
  ratio = xsimd::fma(ratio, d, vector(1.56250037e-2f));
  ratio = xsimd::fma(ratio, d, vector(6.24999925e-2f));
  ratio = xsimd::fma(ratio, d, vector(0.125f));
  const vector small = p * d * d * ratio;
  const vector distance = xsimd::min(xsimd::abs(d), vector(87.0f));
  const auto large = distance > vector(1.0f);
  if (!xsimd::any(large)) return small;
  const vector r = lean_exp<Arch>(-distance);  // at most e^-1, where this is ln 2 - ln(1 + r) to 4e-8
  vector log_ratio = xsimd::fma(vector(6.17921688e-2f), r, vector(-0.156827211f));
  log_ratio = xsimd::fma(log_ratio, r, vector(0.24011457f));
  log_ratio = xsimd::fma(log_ratio, r, vector(-0.332110167f));
  log_ratio = xsimd::fma(log_ratio, r, vector(0.499925762f));
  log_ratio = xsimd::fma(log_ratio, r, vector(-0.999998271f));
  log_ratio = xsimd::fma(log_ratio, r, vector(0.693147182f));
  const vector from_zero = vector(0.5f) * xsimd::max(p, q) * (xsimd::fma(r, log_ratio, log_ratio) - r * distance);
  return xsimd::select(large, from_zero, small);
}

}  // namespace klens::detail
