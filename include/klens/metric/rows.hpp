#pragma once
// The metrics of two rows of logits, as plain functions, for code that has its own loop over positions.

#include <cmath>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/metric.hpp>
#include <klens/metric/metrics.hpp>
#include <span>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// ln sum exp of a row of logits, computed without overflow.
/// Throws     as describe_reference: numeric_error at a NaN, at +inf and where every logit is -inf; shape_error when empty.
[[nodiscard]] inline double log_sum_exp(std::span<const float> row) { return describe_reference(row).log_sum_exp; }

namespace detail {
template <row_sums Needs>
[[nodiscard]] row_damage damage_of_row(std::span<const float> reference, std::span<const float> observed) {
  return compare_rows_for<Needs>(reference, observed, klens::describe_reference(reference));
}
}  // namespace detail

// All below take raw logits of one position, of the untouched and of the changed model, one a token of the vocabulary. They
// throw shape_error for rows of different lengths or none, numeric_error for logits that are NaN or +inf. Whoever compares one
// reference row with many calls describe_reference once, and compare_rows.

/// KL(P || Q), P and Q being the softmax of each row. In nats, at least 0; higher is worse. +inf where Q is 0 and P is not.
[[nodiscard]] inline double kl_divergence(std::span<const float> reference, std::span<const float> observed) {
  return detail::damage_of_row<row_sums::kl>(reference, observed).kl;
}

/// KL(Q || P). In nats, at least 0; higher is worse.
[[nodiscard]] inline double reverse_kl_divergence(std::span<const float> reference, std::span<const float> observed) {
  return detail::damage_of_row<row_sums::reverse_kl>(reference, observed).reverse_kl;
}

/// Jensen-Shannon divergence. In nats, 0 to ln 2; higher is worse.
[[nodiscard]] inline double js_divergence(std::span<const float> reference, std::span<const float> observed) {
  return detail::damage_of_row<row_sums::js>(reference, observed).js;
}

/// Mean over the vocabulary of (observed - reference)^2, in squared logits; higher is worse.
[[nodiscard]] inline double mean_squared_error(std::span<const float> reference, std::span<const float> observed) {
  return detail::damage_of_row<row_sums::squared_error>(reference, observed).squared_error /
         static_cast<double>(reference.size());
}

/// 10 log10(sum reference^2 / sum (observed - reference)^2), in dB; lower is worse, +inf where the rows agree.
[[nodiscard]] inline double sqnr_db(std::span<const float> reference, std::span<const float> observed) {
  const row_damage damage = detail::damage_of_row<row_sums::squared_error>(reference, observed);
  return 10 * std::log10(damage.reference_energy / damage.squared_error);
}

/// Whether both rows are largest at the same token; of equal logits the first one counts.
[[nodiscard]] inline bool same_top(std::span<const float> reference, std::span<const float> observed) {
  return detail::damage_of_row<row_sums::same_top>(reference, observed).same_top;
}

/// ln P(token) - ln Q(token), in nats: what the change adds to the cross-entropy of that token; higher is worse.
/// Throws     argument_error for a token outside the vocabulary.
[[nodiscard]] inline double cross_entropy_change(std::span<const float> reference, std::span<const float> observed,
                                                 std::size_t token) {
  if (token >= reference.size())
    detail::refuse<argument_error>({"token ", token, " is outside the vocabulary of ", reference.size()});
  return delta_ce{}({reference, observed, token, detail::damage_of_row<row_sums::kl>(reference, observed)}).value;
}

}  // namespace klens
