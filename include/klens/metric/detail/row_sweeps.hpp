#pragma once

#include <cstddef>
#include <klens/metric/detail/describe_row.hpp>
#include <klens/metric/detail/divergence_step.hpp>
#include <klens/metric/metric.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Everything that the first sweep can hold.
inline constexpr row_sums all_but_js = row_sums::kl | row_sums::reverse_kl | row_sums::squared_error | row_sums::same_top;

/// Sweeps for the smallest set of sums that holds what is needed and has a loop of its own. Each loop costs every user's compiler
/// a tenth of a second, so rare rows (masked ones, and those swept again with care::exact) share one.
template <care Care, class Arch>
[[nodiscard]] pair_sums compare_for(row_sums needs, std::span<const float> x, std::span<const float> y, const anchor& from,
                                    std::size_t top) noexcept {
  constexpr row_sums without_exp = row_sums::squared_error | row_sums::same_top;
  if constexpr (Care == care::exact) {
    if (needs == row_sums::js) return compare_as<row_sums::js, Care, Arch>(x, y, from, top);
  } else if constexpr (Care == care::plain) {
    if (needs == row_sums::kl) return compare_as<row_sums::kl, Care, Arch>(x, y, from, top);
    if (contains(without_exp, needs)) return compare_as<without_exp, Care, Arch>(x, y, from, top);
  }
  return compare_as<all_but_js, Care, Arch>(x, y, from, top);
}

/// All that depends on the instruction set.
struct row_sweeps {
  row_summary (*describe)(std::span<const float> row) noexcept;
  pair_sums (*compare)(care, row_sums, std::span<const float> x, std::span<const float> y, const anchor&,
                       std::size_t top) noexcept;
};

template <class Arch>
[[nodiscard]] pair_sums compare_with(care how, row_sums needs, std::span<const float> x, std::span<const float> y,
                                     const anchor& from, std::size_t top) noexcept {
  switch (how) {
    case care::plain:
      return compare_for<care::plain, Arch>(needs, x, y, from, top);
    case care::masked:
      return compare_for<care::masked, Arch>(needs, x, y, from, top);
    default:
      return compare_for<care::exact, Arch>(needs, x, y, from, top);
  }
}

template <class Arch>
[[nodiscard]] constexpr row_sweeps sweeps_for() noexcept {
  return {&describe_row<Arch>, &compare_with<Arch>};
}

[[nodiscard]] constexpr row_sweeps chosen_sweeps() noexcept { return sweeps_for<best_arch>(); }

}  // namespace klens::detail
