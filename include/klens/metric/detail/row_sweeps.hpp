#pragma once

#include <cstddef>
#include <klens/metric/detail/describe_row.hpp>
#include <klens/metric/detail/divergence_step.hpp>
#include <klens/metric/metric.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Everything that the first sweep can hold.
inline constexpr row_sums all_but_js = row_sums::kl | row_sums::reverse_kl | row_sums::squared_error | row_sums::same_top;

/// The smallest set of sums that has a loop of its own and holds what is needed of rows that are not masked. Each loop costs
/// every user's compiler a tenth of a second, so rare rows (masked ones, and those swept again with care::exact) share one.
[[nodiscard]] constexpr row_sums loop_for(row_sums needs) noexcept {
  constexpr row_sums without_exp = row_sums::squared_error | row_sums::same_top;
  return needs == row_sums::kl ? row_sums::kl : contains(without_exp, needs) ? without_exp : all_but_js;
}

/// The two loops over rows, all that depends on the instruction set.
struct row_sweeps {
  row_summary (*describe)(std::span<const float> row) noexcept;
  pair_sums (*compare)(care, row_sums, std::span<const float> x, std::span<const float> y, const anchor&,
                       std::size_t top) noexcept;
};

/// For sums that are known at run time only.
template <class Arch>
[[nodiscard]] pair_sums compare_any(care how, row_sums needs, std::span<const float> x, std::span<const float> y,
                                    const anchor& from, std::size_t top) noexcept {
  if (needs == row_sums::js) return compare_as<row_sums::js, care::exact, Arch>(x, y, from, top);
  if (how == care::masked) return compare_as<all_but_js, care::masked, Arch>(x, y, from, top);
  if (how == care::exact) return compare_as<all_but_js, care::exact, Arch>(x, y, from, top);
  const row_sums loop = loop_for(needs);
  if (loop == row_sums::kl) return compare_as<row_sums::kl, care::plain, Arch>(x, y, from, top);
  if (loop == all_but_js) return compare_as<all_but_js, care::plain, Arch>(x, y, from, top);
  return compare_as<loop_for(row_sums::none), care::plain, Arch>(x, y, from, top);
}

/// The same for sums that are known at compile time: no other loop is compiled. (Where js is wanted, row_comparison asks for
/// all_but_js first.)
template <row_sums Needs, class Arch>
[[nodiscard]] pair_sums compare_known(care how, row_sums needs, std::span<const float> x, std::span<const float> y,
                                      const anchor& from, std::size_t top) noexcept {
  constexpr bool has_js = contains(Needs, row_sums::js);
  if constexpr (has_js)
    if (needs == row_sums::js) return compare_as<row_sums::js, care::exact, Arch>(x, y, from, top);
  if (how == care::masked) return compare_as<all_but_js, care::masked, Arch>(x, y, from, top);
  if (how == care::exact) return compare_as<all_but_js, care::exact, Arch>(x, y, from, top);
  return compare_as<loop_for(has_js ? all_but_js : Needs), care::plain, Arch>(x, y, from, top);
}

[[nodiscard]] inline row_sweeps chosen_sweeps() noexcept { return {&describe_row<best_arch>, &compare_any<best_arch>}; }

}  // namespace klens::detail
