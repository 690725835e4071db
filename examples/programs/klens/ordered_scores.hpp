#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/stats/bootstrap.hpp>
#include <klens/stats/interval.hpp>
#include <limits>
#include <span>
#include <vector>

#include "explanatory_metrics.hpp"
#include "validate_study.hpp"

namespace programs {

/// A metric's sums by sequence.
[[nodiscard]] inline const std::vector<klens::contribution>& sums_of(const klens::layer_score& of, std::size_t metric) {
  return of.metrics[metric].by_sequence;
}

/// Scores of all candidates, turned so that higher is worse: what a resample makes of the two scans.
class ordered_scores {
 public:
  /// Calibration sums of every metric of the scan (the first sequences of them), then those of the held-out tokens.
  ordered_scores(const study& all, std::size_t scanned, std::size_t calibration_sequences) : all_{all}, scanned_{scanned} {
    for (const bool held_out : {false, true})
      for (std::size_t m = 0; m < scanned; ++m) {
        klens::score_list& list = lists_.emplace_back();
        list.token_set = held_out ? 1 : 0;
        for (const study_candidate& each : all.candidates) {
          const klens::sequence_sums sums = sums_of(held_out ? *each.held_out : *each.calibrated, m);
          list.candidates.push_back(held_out ? sums : sums.first(std::min(sums.size(), calibration_sequences)));
        }
      }
    for (const study_candidate& each : all.candidates) {
      const klens::estimate& of = each.delta_ce;
      const double to_zero = of.value > 0 ? of.value - of.range->low : of.range->high - of.value;
      const double error = klens::standard_error(sums_of(*each.held_out, all.index_of("delta_ce")));
      errors_to_zero_.push_back(error > 0 ? to_zero / error : 0);
    }
    for (std::size_t m = 0; m < scanned; ++m)
      signs_.push_back(metric_of_study(all.metrics[m].name).higher_mean_is_worse() ? 1 : -1);
  }

  [[nodiscard]] std::span<const klens::score_list> lists() const noexcept { return lists_; }

  [[nodiscard]] std::vector<double> of(klens::list_means from, std::size_t metric,
                                       const std::vector<std::size_t>& members) const {
    std::vector<double> scores;
    const study_metric& known = all_.metrics[metric];
    for (const std::size_t c : members)
      scores.push_back(metric < scanned_ ? signs_[metric] * from[metric][c]
                                         : (known.higher_is_worse ? 1 : -1) * known.scores[c]);
    return scores;
  }
  [[nodiscard]] std::vector<double> on_other_text(klens::list_means from, std::size_t metric,
                                                  const std::vector<std::size_t>& members) const {
    std::vector<double> scores;
    for (const std::size_t c : members)
      scores.push_back(metric < scanned_ ? signs_[metric] * from[scanned_ + metric][c]
                                         : std::numeric_limits<double>::quiet_NaN());
    return scores;
  }
  /// delta_ce - kl: how far a damage leans towards what the calibration text rewards (below 0) or away from it, or the held-out text.
  [[nodiscard]] std::vector<double> lean(klens::list_means from, bool held_out, const std::vector<std::size_t>& members) const {
    const std::size_t first = held_out ? scanned_ : 0;
    const std::size_t delta_ce = first + all_.index_of("delta_ce"), kl = first + all_.index_of("kl");
    std::vector<double> leans;
    for (const std::size_t c : members) leans.push_back(from[delta_ce][c] - from[kl][c]);
    return leans;
  }
  /// The increase in cross entropy; 0 for all whose increase may be none, which makes them ties. Which ones those are is decided
  /// anew in every resample, by as many standard errors as their interval reaches towards 0.
  [[nodiscard]] std::vector<double> truth(klens::list_means from, const klens::list_errors& errors,
                                          const std::vector<std::size_t>& members) const {
    std::vector<double> increases;
    const std::size_t delta_ce = scanned_ + all_.index_of("delta_ce");
    for (const std::size_t c : members) {
      const double increase = from[delta_ce][c];
      increases.push_back(std::abs(increase) > errors_to_zero_[c] * errors(delta_ce, c) ? increase : 0);
    }
    return increases;
  }

 private:
  const study& all_;
  std::size_t scanned_;
  std::vector<klens::score_list> lists_;
  std::vector<double> errors_to_zero_;  // from a candidate's increase to the end of its interval, in standard errors
  std::vector<double> signs_;
};

}  // namespace programs
