#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/order.hpp>
#include <klens/error.hpp>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// How far two lists of scores put the same candidates into the same order.
struct agreement {
  double value = 0;          ///< 1: the same order, -1: the reverse; NaN where there is nothing to compare
  std::size_t used = 0;      ///< candidates with a score in both lists
  std::size_t left_out = 0;  ///< candidates with a NaN in either
};

namespace detail {

/// The candidates that have a score in both lists. Throws shape_error, beginning with `name`, where the lengths differ.
[[nodiscard]] inline std::vector<std::pair<double, double>> scored_in_both(std::string_view name, std::span<const double> a,
                                                                           std::span<const double> b) {
  if (a.size() != b.size())
    throw shape_error{std::string{name} + ": the first list has " + std::to_string(a.size()) + " scores, the second " +
                      std::to_string(b.size()) + "; give one score for each candidate in both"};
  std::vector<std::pair<double, double>> both;
  both.reserve(a.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!detail::is_nan(a[i]) && !detail::is_nan(b[i])) both.emplace_back(a[i], b[i]);
  return both;
}

}  // namespace detail
namespace detail {

/// How many pairs stand the wrong way round in `values`, equal ones not counted; sorts them. `spare` is as long as `values`.
[[nodiscard]] inline std::uint64_t sort_counting_inversions(std::span<double> values, std::span<double> spare) {
  if (values.size() < 2) return 0;
  const std::size_t half = values.size() / 2;
  std::uint64_t inversions = sort_counting_inversions(values.first(half), spare.first(half));
  inversions += sort_counting_inversions(values.subspan(half), spare.subspan(half));
  std::copy(values.begin(), values.end(), spare.begin());
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
  std::sort(both.begin(), both.end());
  const auto n = static_cast<std::uint64_t>(both.size());
  const std::uint64_t all = n < 2 ? 0 : n * (n - 1) / 2;
  const std::uint64_t tied_first = equal_pairs(both, [](const auto& x, const auto& y) { return x.first == y.first; });
  const std::uint64_t tied_both = equal_pairs(both, [](const auto& x, const auto& y) { return x == y; });

  std::vector<double> second(both.size()), spare(both.size());
  for (std::size_t i = 0; i < both.size(); ++i) second[i] = both[i].second;
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

namespace detail {

/// Twice the distance of every value's rank from the middle rank; equal values share the mean of their ranks (their mid-rank).
template <class Values, class Projection>
[[nodiscard]] std::vector<double> centred_double_ranks(const Values& values, const Projection& projection) {
  const auto value = [&](std::size_t i) { return values[i].*projection; };
  const std::vector<std::size_t> order =
      order_of(values.size(), [&](std::size_t i, std::size_t j) { return value(i) < value(j); });
  std::vector<double> ranks(values.size());
  for (std::size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    while (end < order.size() && value(order[end]) == value(order[begin])) ++end;
    const double doubled = static_cast<double>(begin) + static_cast<double>(end) - static_cast<double>(order.size());
    for (std::size_t i = begin; i < end; ++i) ranks[order[i]] = doubled;
  }
  return ranks;
}

}  // namespace detail

/// Spearman's rho between two lists of scores: the correlation of their ranks, equal scores sharing their mid-rank.
/// Shapes     two lists of the same length.
/// Edges      as kendall_tau: NaN candidates are left out and counted, infinities are extreme scores, NaN where a list is
///            constant or fewer than two candidates have both scores.
/// Throws     shape_error.
/// Precision  the sums are exact up to 10^5 candidates; O(n log n).
/// Source     C. Spearman, Amer. J. Psychol. 15 (1904); mid-ranks: M. G. Kendall, Rank Correlation Methods (1948), chapter 3.
[[nodiscard]] inline agreement spearman_rho(std::span<const double> a, std::span<const double> b) {
  const auto both = detail::scored_in_both("spearman_rho", a, b);
  const auto first = detail::centred_double_ranks(both, &std::pair<double, double>::first);
  const auto second = detail::centred_double_ranks(both, &std::pair<double, double>::second);
  const auto dot = [](const std::vector<double>& x, const std::vector<double>& y) {
    return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
  };
  const double rho = dot(first, second) / std::sqrt(dot(first, first) * dot(second, second));  // 0 / 0 where a list is constant
  return {rho, both.size(), a.size() - both.size()};
}

/// The share of the `count` largest scores of one list that are among the `count` largest of the other. Turn the sign of lists
/// in which small is worse.
/// Shapes     two lists of the same length.
/// Edges      NaN candidates are left out and counted, as in kendall_tau; NaN where count is 0 or exceeds what is left. Where
///            equal scores compete for the last seats each has its share of them: the mean over all ways to draw lots.
/// Throws     shape_error.
[[nodiscard]] inline agreement top_overlap(std::span<const double> a, std::span<const double> b, std::size_t count) {
  const auto both = detail::scored_in_both("top_overlap", a, b);
  const agreement nothing{std::numeric_limits<double>::quiet_NaN(), both.size(), a.size() - both.size()};
  if (count == 0 || count > both.size()) return nothing;

  const auto seats = [&](auto list) {
    std::vector<double> sorted;
    sorted.reserve(both.size());
    for (const auto& each : both) sorted.push_back(each.*list);
    std::sort(sorted.begin(), sorted.end());
    const double last = sorted[sorted.size() - count];
    double over = 0, level = 0;
    for (const double x : sorted) (x == last ? level : over) += x >= last ? 1 : 0;
    return [=](const std::pair<double, double>& each) {
      return each.*list > last ? 1.0 : each.*list == last ? (static_cast<double>(count) - over) / level : 0.0;
    };
  };
  const auto in_a = seats(&std::pair<double, double>::first), in_b = seats(&std::pair<double, double>::second);
  double shared = 0;
  for (const auto& each : both) shared += in_a(each) * in_b(each);
  return {shared / static_cast<double>(count), nothing.used, nothing.left_out};
}

}  // namespace klens
