#pragma once

#include <cstddef>
#include <klens/metric/any_metric.hpp>
#include <klens/rank/any_stopping_rule.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/scores.hpp>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Lets the stopping rule look at the candidates of each scheme, and enters where they now stand. `at` brings what the rule
/// must know beside the candidates. Candidates that failed are not shown to it.
inline void settle_places(scores& all, const any_metric& metric, std::size_t metric_index, const any_stopping_rule& stop,
                          look at) {
  at.higher_is_worse = metric.higher_mean_is_worse();
  for (const std::string& scheme : all.schemes()) {
    std::vector<layer_score*> candidates;
    std::vector<sequence_sums> sums;
    std::vector<standing> standings;
    for (layer_score& each : all.candidates) {
      if (each.scheme != scheme || each.result == outcome::failed) continue;
      candidates.push_back(&each);
      sums.emplace_back(each.metrics[metric_index].by_sequence);
      standings.push_back(each.place);
    }
    if (candidates.empty()) continue;
    at.candidates = sums;
    at.standings = standings;
    const std::vector<standing> now = stop(at);
    for (std::size_t c = 0; c < candidates.size(); ++c) candidates[c]->place = now[c];
  }
}

}  // namespace klens::detail
