#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/rank/agreement.hpp>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace klens {
namespace detail {

/// Twice the distance of every value's rank from the middle rank; equal values share the mean of their ranks (their mid-rank).
template <class Values, class Projection>
[[nodiscard]] std::vector<double> centred_double_ranks(const Values& values, const Projection& projection) {
  const auto value = [&](std::size_t i) { return values[i].*projection; };
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, value);
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

}  // namespace klens
