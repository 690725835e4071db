#pragma once

#include <cstddef>
#include <cstdint>
#include <klens/matrix.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/measure.hpp>
#include <klens/metric/metrics.hpp>
#include <klens/stats/interval.hpp>
#include <span>
#include <vector>

namespace programs {

/// What a version of a model was measured to be, against the untouched one.
struct measured_version {
  klens::totals<klens::kl> kl{klens::kl{}};
  klens::totals<klens::top1> top1{klens::top1{}};
  std::vector<klens::contribution> nll_by_sequence;  ///< sum of -ln Q(next token), and how many

  /// Takes in what both gave for the same sequences: logits [positions x vocabulary].
  void add(const klens::matrix<float>& reference, const klens::matrix<float>& observed, std::span<const std::int32_t> tokens,
           std::size_t length, std::size_t threads);

  [[nodiscard]] double perplexity() const;
  /// Standard error of this perplexity's difference to that of `base`, from how the difference varies between sequences: both
  /// read the same text, so most of the scatter of either is not in it. NaN for a single sequence.
  [[nodiscard]] double perplexity_error(const measured_version& base) const;
};

/// -ln P(token) by a row of logits, in nats.
[[nodiscard]] inline double next_token_nll(std::span<const float> logits, std::int32_t token) {
  return klens::describe_reference(logits).log_sum_exp - static_cast<double>(logits[static_cast<std::size_t>(token)]);
}

}  // namespace programs
