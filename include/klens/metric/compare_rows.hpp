#pragma once

#include <cassert>
#include <klens/detail/float_bits.hpp>
#include <klens/error.hpp>
#include <klens/metric/metric.hpp>
#include <span>
#include <string>
#if defined(KLENS_COMPILED)
#include <klens/metric/detail/compiled_rows.hpp>
#else
#include <klens/metric/detail/row_comparison.hpp>
#endif

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

[[noreturn, gnu::cold, gnu::noinline]] inline void refuse_logits(std::span<const float> row, const char* whose) {
  for (std::size_t i = 0; i < row.size(); ++i)
    if (is_nan(row[i]) || (is_infinite(row[i]) && row[i] > 0))
      refuse<numeric_error>({whose, " logit ", i, " of ", std::ssize(row), is_nan(row[i]) ? " is NaN" : " is +inf",
                             "; logits must be finite, or -inf where masked"});
  refuse<numeric_error>({"every ", whose, " logit is -inf; leave at least one token unmasked"});
}

}  // namespace detail

/// Describes a row of reference logits, n >= 1. A logit of -inf is a masked token.
/// Throws     numeric_error at a NaN, at +inf, and where every logit is -inf; shape_error for an empty row.
[[nodiscard]] inline reference_row describe_reference(std::span<const float> reference) {
  if (reference.empty()) throw shape_error{"a row of logits is empty; give at least one token"};
  reference_row known;
  if (!detail::describe_logits(reference, known)) [[unlikely]]
    detail::refuse_logits(reference, "reference");
  return known;
}

namespace detail {

inline void expect_equal_rows(std::span<const float> reference, std::span<const float> observed) {
  if (reference.size() != observed.size() || reference.empty())
    refuse<shape_error>({"the reference row has ", std::ssize(reference), " logits, the observed row ", std::ssize(observed),
                         "; give as many of each, at least one"});
}

/// compare_rows for sums that are known at compile time: no other loops are compiled.
template <row_sums Needs>
[[nodiscard]] row_damage compare_rows_for(std::span<const float> reference, std::span<const float> observed,
                                          const reference_row& known) {
  expect_equal_rows(reference, observed);
  row_damage damage;
  if (!compare_logits_for<Needs>(reference, observed, known, damage)) [[unlikely]]
    refuse_logits(observed, "observed");
  return damage;
}

}  // namespace detail

/// Compares two rows of raw logits of equal length.
[[nodiscard]] inline row_damage compare_rows(std::span<const float> reference, std::span<const float> observed,
                                             const reference_row& known, row_sums needs) {
  detail::expect_equal_rows(reference, observed);
  assert(known.top < reference.size());
  row_damage damage;
  if (!detail::compare_logits(reference, observed, known, needs, damage)) [[unlikely]]
    detail::refuse_logits(observed, "observed");
  return damage;
}

}  // namespace klens
