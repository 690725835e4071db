#pragma once

#include <cstddef>
#include <klens/rank/scores.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace klens {

/// The places that a candidate may have, as far as the intervals of all tell: from 0 for the worst; both ends included.
struct rank_range {
  const layer_score* candidate = nullptr;
  std::size_t first = 0;
  std::size_t last = 0;
};

/// The range of each candidate of a scheme, worst first: those whose intervals lie wholly above its own stand before it for
/// sure, those wholly below behind it. A candidate without an interval counts as its mean alone. Throws argument_error where
/// the metric was not measured.
[[nodiscard]] inline std::vector<rank_range> rank_ranges(const scores& all, std::string_view metric, std::string_view scheme) {
  const std::size_t m = all.index_of(metric);
  const bool higher_is_worse = all.metrics[m].higher_is_worse;
  std::vector<rank_range> ranges;
  for (const layer_score* each : all.ranked(metric))
    if (each->scheme == scheme && each->positions > 0) ranges.push_back({each, 0, 0});
  const auto surely_worse = [&](const layer_score& a, const layer_score& b) {
    const metric_score &left = a.metrics[m], &right = b.metrics[m];
    const double left_end = higher_is_worse ? left.low : left.high, right_end = higher_is_worse ? right.high : right.low;
    const double own = left_end == left_end ? left_end : left.mean, other = right_end == right_end ? right_end : right.mean;
    return higher_is_worse ? own > other : own < other;
  };
  for (rank_range& each : ranges) {
    each.last = ranges.size() - 1;
    for (const rank_range& other : ranges) {
      if (surely_worse(*other.candidate, *each.candidate)) ++each.first;
      if (surely_worse(*each.candidate, *other.candidate)) --each.last;
    }
  }
  return ranges;
}

std::vector<rank_range> rank_ranges(const scores&&, std::string_view, std::string_view) = delete;  // ranges point into it

/// Layers that two scans of the same candidates rank differently beyond their intervals, as where interactions matter: one scan
/// from the reference, one from the quantized model.
[[nodiscard]] inline std::vector<std::string> ranked_differently(const scores& first, const scores& second,
                                                                 std::string_view metric, std::string_view scheme) {
  std::vector<std::string> layers;
  const std::vector<rank_range> others = rank_ranges(second, metric, scheme);
  for (const rank_range& each : rank_ranges(first, metric, scheme))
    for (const rank_range& other : others)
      if (each.candidate->layer == other.candidate->layer && (each.last < other.first || other.last < each.first))
        layers.push_back(each.candidate->layer);
  return layers;
}

}  // namespace klens
