#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/metric.hpp>
#include <klens/rank/scores.hpp>
#include <klens/stats/interval.hpp>
#include <optional>
#include <tuple>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Mean and interval of what was found by sequence. Savings may be negative where the metric itself may not.
inline void summarize(const any_metric& metric, metric_score& score, bool savings) {
  score.mean = metric.finish(mean_of(score.by_sequence));
  const std::optional<interval> range =
      savings ? mean_interval(score.by_sequence) : mean_interval(score.by_sequence, 0.95, metric.least);
  if (range) std::tie(score.low, score.high) = std::minmax({metric.finish(range->low), metric.finish(range->high)});
}

/// Whether candidates were measured, and no position of any had a weight for that metric.
[[nodiscard]] inline bool is_unknown_to_all(const scores& all, std::size_t metric) {
  bool measured = false;
  for (const layer_score& each : all.candidates) {
    for (const contribution& sums : each.metrics[metric].by_sequence)
      if (sums.weight != 0) return false;
    measured = measured || each.positions > 0;
  }
  return measured;
}

}  // namespace klens::detail
