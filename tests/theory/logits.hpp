#pragma once
// What the tests of docs/theory.md share: real logits, made-up logits, and the few formulas, in plain double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <klens/detail/random.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/metric.hpp>
#include <numbers>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace theory {

using row = std::vector<float>;
using rows = std::vector<row>;
using list = std::vector<double>;

/// Rows of tests/data/real-logits.safetensors: "reference", "int4_a", "int4_b", "int4_ab", "int8_a", "int2_a". See
/// make_real_logits.py.
inline rows real_logits(const std::string& name) {
  const klens::safetensors file{KLENS_TEST_DATA "/real-logits.safetensors"};
  const klens::stored_tensor& stored = file.at(name);
  rows all(stored.shape[0], row(stored.shape[1]));
  for (std::size_t t = 0; t < all.size(); ++t)
    std::memcpy(all[t].data(), stored.bytes.data() + t * stored.shape[1] * sizeof(float), stored.shape[1] * sizeof(float));
  return all;
}

inline double normal(klens::detail::random_stream& random) {
  const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
  return radius * std::cos(2 * std::numbers::pi * random.uniform());
}

inline row normal_row(klens::detail::random_stream& random, std::size_t size, double spread) {
  row made(size);
  for (float& each : made) each = static_cast<float>(spread * normal(random));
  return made;
}

inline row moved(const row& reference, const row& by, double scale = 1) {
  row observed = reference;
  for (std::size_t v = 0; v < observed.size(); ++v) observed[v] += static_cast<float>(scale * static_cast<double>(by[v]));
  return observed;
}

inline list softmax(const row& logits) {
  const double top = *std::ranges::max_element(logits);
  list p(logits.size());
  double total = 0;
  for (std::size_t v = 0; v < p.size(); ++v) total += p[v] = std::exp(static_cast<double>(logits[v]) - top);
  for (double& each : p) each /= total;
  return p;
}

inline list difference(const row& reference, const row& observed) {
  list delta(reference.size());
  for (std::size_t v = 0; v < delta.size(); ++v)
    delta[v] = static_cast<double>(observed[v]) - static_cast<double>(reference[v]);
  return delta;
}

inline double dot(const list& a, const list& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

/// Cov_p(a, b) = a' F b with F = diag(p) - p p'.
inline double covariance(const list& p, const list& a, const list& b) {
  const double mean_a = dot(p, a), mean_b = dot(p, b);
  double total = 0;
  for (std::size_t v = 0; v < p.size(); ++v) total += p[v] * (a[v] - mean_a) * (b[v] - mean_b);
  return total;
}
inline double variance(const list& p, const list& a) { return covariance(p, a, a); }

inline double range(const list& a) { return std::ranges::max(a) - std::ranges::min(a); }

inline double total_variation(const list& p, const list& q) {
  double total = 0;
  for (std::size_t v = 0; v < p.size(); ++v) total += std::abs(p[v] - q[v]) / 2;
  return total;
}

inline double mse(const row& reference, const row& observed) {
  const list delta = difference(reference, observed);
  return dot(delta, delta) / static_cast<double>(delta.size());
}

/// klens' own divergences of two rows.
inline klens::row_damage damage(const row& reference, const row& observed) {
  using klens::row_sums;
  return klens::compare_rows(reference, observed, klens::describe_reference(reference),
                             row_sums::kl | row_sums::reverse_kl | row_sums::js | row_sums::squared_error);
}
inline double kl(const row& reference, const row& observed) { return damage(reference, observed).kl; }

/// 2 (e^r - 1 - r) / r^2, statement 1.2.
inline double growth(double r) { return std::abs(r) < 1e-4 ? 1 + r / 3 : 2 * (std::expm1(r) - r) / (r * r); }

}  // namespace theory
