#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/metric/any_metric.hpp>
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

}  // namespace klens::detail
