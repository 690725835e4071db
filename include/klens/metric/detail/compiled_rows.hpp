#pragma once

#include <klens/detail/compiled.hpp>
#include <klens/metric/metric.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

// The functions of row_comparison.hpp, out of the compiled library.

[[nodiscard]] inline bool describe_logits(std::span<const float> row, reference_row& known) noexcept {
  compiled::reference of;
  if (!compiled::chosen().describe(row.data(), row.size(), of)) return false;
  known = {of.log_sum_exp, of.energy, of.top, of.masked};
  return true;
}
[[nodiscard]] inline bool compare_logits(std::span<const float> reference, std::span<const float> observed,
                                         const reference_row& known, row_sums needs, row_damage& damage) noexcept {
  compiled::damage of;
  if (!compiled::chosen().compare(reference.data(), observed.data(), reference.size(),
                                  {known.log_sum_exp, known.energy, known.top, known.masked}, static_cast<unsigned>(needs), of))
    return false;
  damage = {.log_partition_change = of.log_partition_change,
            .same_top = of.same_top,
            .kl = of.kl,
            .reverse_kl = of.reverse_kl,
            .js = of.js,
            .squared_error = of.squared_error,
            .reference_energy = of.reference_energy};
  return true;
}
template <row_sums Needs>
[[nodiscard]] bool compare_logits_for(std::span<const float> reference, std::span<const float> observed,
                                      const reference_row& known, row_damage& damage) noexcept {
  return compare_logits(reference, observed, known, Needs, damage);
}

}  // namespace klens::detail
