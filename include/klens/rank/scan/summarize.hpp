#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
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

/// Enters a position's value if it is worse than the worst so far; NaN stands for none.
inline void take_worst(const any_metric& metric, metric_score& score, double value, std::size_t position) {
  if (detail::is_nan(value)) return;
  if (!detail::is_nan(score.worst) && !(metric.higher_is_worse ? value > score.worst : value < score.worst)) return;
  score.worst = value;
  score.worst_position = position;
}

}  // namespace klens::detail
