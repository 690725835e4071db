#pragma once

#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/rank/scores.hpp>
#include <klens/stats/bootstrap.hpp>
#include <klens/stats/interval.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// A candidate's place in a ranking.
struct ranked_place {
  const layer_score* candidate = nullptr;
  std::size_t group = 0;  ///< ties have the same; counted from 0
  estimate to_next;       ///< its mean minus that of the next place, on the same sequences, before finish(); 0 at the last
};

/// The candidates of one scheme, worst first, with what the order is worth.
struct ranking {
  std::string scheme;
  std::string metric;
  std::vector<ranked_place> places;  ///< those that say something about damage
  double stability = 0;  ///< Kendall's tau to expect against a ranking by as many fresh sequences; NaN with a single one
};

/// Ranks the candidates of one scheme by a metric. Those that say nothing about damage have no place.
/// Throws argument_error where the metric was not measured, and for a confidence outside 0 .. 1.
[[nodiscard]] inline ranking ranking_of(const scores& all, std::string_view metric, std::string_view scheme,
                                        const bootstrap_options& options = {}) {
  const std::size_t m = all.index_of(metric);
  ranking result{std::string{scheme}, std::string{metric}, {}, 0};
  std::vector<sequence_sums> sums;
  for (const layer_score* each : all.ranked(metric)) {
    if (each->scheme != scheme || !each->says_damage() || detail::is_nan(each->metrics[m].mean)) continue;
    result.places.push_back({each, 0, {}});
    sums.emplace_back(each->metrics[m].by_sequence);
  }
  const std::vector<std::size_t> groups = tie_groups(sums, options.confidence);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    result.places[i].group = groups[i];
    if (i + 1 < sums.size()) result.places[i].to_next = difference_of(sums[i], sums[i + 1], options.confidence);
  }
  result.stability = expected_tau(sums, options);
  return result;
}
ranking ranking_of(const scores&&, std::string_view, std::string_view,
                   const bootstrap_options& = {}) = delete;  // places point into it

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
    if (each->scheme == scheme && each->positions > 0 && !detail::is_nan(each->metrics[m].mean)) ranges.push_back({each, 0, 0});
  const auto surely_worse = [&](const layer_score& a, const layer_score& b) {
    const metric_score &left = a.metrics[m], &right = b.metrics[m];
    const double left_end = higher_is_worse ? left.low : left.high, right_end = higher_is_worse ? right.high : right.low;
    const double own = detail::is_nan(left_end) ? left.mean : left_end,
                 other = detail::is_nan(right_end) ? right.mean : right_end;
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
