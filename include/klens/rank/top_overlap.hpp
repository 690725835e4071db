#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <klens/rank/agreement.hpp>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace klens {

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
    std::ranges::sort(sorted, std::ranges::greater{});
    const double last = sorted[count - 1];
    const auto over = static_cast<double>(std::ranges::count_if(sorted, [&](double x) { return x > last; }));
    const auto level = static_cast<double>(std::ranges::count(sorted, last));
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
