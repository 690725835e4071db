#pragma once

#include <cassert>
#include <klens/error.hpp>
#include <klens/metric/detail/row_comparison.hpp>
#include <klens/metric/metric.hpp>
#include <span>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Describes a row of reference logits, n >= 1. A logit of -inf is a masked token.
/// Throws     numeric_error at a NaN, at +inf, and where every logit is -inf; shape_error for an empty row.
[[nodiscard]] inline reference_row describe_reference(std::span<const float> reference) {
  if (reference.empty()) throw shape_error{"a row of logits is empty; give at least one token"};
  return detail::describe_reference(detail::chosen_sweeps(), reference);
}

/// Compares two rows of raw logits of equal length.
[[nodiscard]] inline row_damage compare_rows(std::span<const float> reference, std::span<const float> observed,
                                             const reference_row& known, row_sums needs) {
  if (reference.size() != observed.size() || reference.empty())
    throw shape_error{"the reference row has " + std::to_string(reference.size()) + " logits, the observed row " +
                      std::to_string(observed.size()) + "; give as many of each, at least one"};
  assert(known.top < reference.size());
  return detail::row_comparison{detail::chosen_sweeps(), reference, observed, known}.measure(needs);
}

}  // namespace klens
