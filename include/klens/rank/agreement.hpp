#pragma once

#include <cmath>
#include <cstddef>
#include <klens/error.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens {

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
    if (!std::isnan(a[i]) && !std::isnan(b[i])) both.emplace_back(a[i], b[i]);
  return both;
}

}  // namespace detail
}  // namespace klens
