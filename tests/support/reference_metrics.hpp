#pragma once
// The metrics of design.md as the textbook writes them, in long double: slow, plain, and nothing of klens in them.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

struct reference_metrics {
  long double kl = 0;
  long double reverse_kl = 0;
  long double js = 0;
  long double log_partition_change = 0;
  long double squared_error = 0;
  long double energy = 0;
  bool same_top = false;
};

inline long double log_sum_exp(const std::vector<float>& logits) {
  const auto largest = static_cast<long double>(*std::max_element(logits.begin(), logits.end()));
  long double sum = 0;
  for (const float each : logits) sum += std::exp(static_cast<long double>(each) - largest);
  return largest + std::log(sum);
}

/// p ln(p / q), 0 where p is 0.
inline long double divergence_term(long double p, long double log_p, long double log_q) {
  return p == 0 ? 0 : p * (log_p - log_q);
}

inline reference_metrics textbook(const std::vector<float>& reference, const std::vector<float>& observed) {
  const long double reference_sum = log_sum_exp(reference), observed_sum = log_sum_exp(observed);
  reference_metrics all;
  all.log_partition_change = observed_sum - reference_sum;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const long double x = reference[i], y = observed[i];
    if (std::isinf(x) && std::isinf(y)) continue;
    const long double log_p = x - reference_sum, log_q = y - observed_sum;
    const long double p = std::exp(log_p), q = std::exp(log_q);
    const long double log_m = std::log(p + q) - std::log(2.0L);  // half of the smallest number would be 0
    all.kl += divergence_term(p, log_p, log_q);
    all.reverse_kl += divergence_term(q, log_q, log_p);
    all.js += (divergence_term(p, log_p, log_m) + divergence_term(q, log_q, log_m)) / 2;
    all.squared_error += (y - x) * (y - x);
    if (!std::isinf(x)) all.energy += x * x;
  }
  const auto first_largest = [](const std::vector<float>& row) {
    return std::max_element(row.begin(), row.end()) - row.begin();
  };
  all.same_top = first_largest(reference) == first_largest(observed);
  return all;
}
