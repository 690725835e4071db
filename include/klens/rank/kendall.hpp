#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/rank/agreement.hpp>
#include <span>
#include <utility>
#include <vector>

namespace klens {
namespace detail {

/// How many pairs stand the wrong way round in `values`, equal ones not counted; sorts them. `spare` is as long as `values`.
[[nodiscard]] inline std::uint64_t sort_counting_inversions(std::span<double> values, std::span<double> spare) {
  if (values.size() < 2) return 0;
  const std::size_t half = values.size() / 2;
  std::uint64_t inversions = sort_counting_inversions(values.first(half), spare.first(half));
  inversions += sort_counting_inversions(values.subspan(half), spare.subspan(half));
  std::ranges::copy(values, spare.begin());
  for (std::size_t left = 0, right = half, out = 0; out < values.size(); ++out) {
    const bool take_right = left == half || (right < values.size() && spare[right] < spare[left]);
    if (take_right) inversions += half - left;
    values[out] = take_right ? spare[right++] : spare[left++];
  }
  return inversions;
}

/// How many pairs are equal in a list in which equal elements are neighbours.
template <class Range, class Equal>
[[nodiscard]] std::uint64_t equal_pairs(const Range& sorted, const Equal& equal) {
  std::uint64_t pairs = 0, run = 0;
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    run = equal(sorted[i - 1], sorted[i]) ? run + 1 : 0;
    pairs += run;
  }
  return pairs;
}

/// tau-b of pairs without NaN; reorders them.
[[nodiscard]] inline double kendall_of(std::vector<std::pair<double, double>>& both) {
  std::ranges::sort(both);
  const auto n = static_cast<std::uint64_t>(both.size());
  const std::uint64_t all = n < 2 ? 0 : n * (n - 1) / 2;
  const std::uint64_t tied_first = equal_pairs(both, [](const auto& x, const auto& y) { return x.first == y.first; });
  const std::uint64_t tied_both = equal_pairs(both, [](const auto& x, const auto& y) { return x == y; });

  std::vector<double> second(both.size()), spare(both.size());
  std::ranges::transform(both, second.begin(), &std::pair<double, double>::second);
  const std::uint64_t discordant = sort_counting_inversions(second, spare);
  const std::uint64_t tied_second = equal_pairs(second, [](double x, double y) { return x == y; });

  const double concordant = static_cast<double>(all - tied_first - (tied_second - tied_both) - discordant);
  return (concordant - static_cast<double>(discordant)) /  // 0 / 0 where a list is constant
         std::sqrt(static_cast<double>(all - tied_first) * static_cast<double>(all - tied_second));
}

}  // namespace detail

/// Kendall's tau-b between two lists of scores, one score a candidate:
///   (concordant - discordant) / sqrt((pairs - pairs tied in a) (pairs - pairs tied in b))
/// Shapes     two lists of the same length.
/// Edges      a NaN means "no score": its candidate is left out and counted. Infinite scores are extreme scores, equal to one
///            another. NaN where a list is constant or fewer than two candidates have both scores.
/// Throws     shape_error.
/// Precision  counts are exact; O(n log n).
/// Source     M. G. Kendall, Biometrika 33 (1945); W. R. Knight, J. Amer. Statist. Assoc. 61 (1966), for the counting.
[[nodiscard]] inline agreement kendall_tau(std::span<const double> a, std::span<const double> b) {
  auto both = detail::scored_in_both("kendall_tau", a, b);
  const std::size_t used = both.size();
  return {detail::kendall_of(both), used, a.size() - used};
}

}  // namespace klens
