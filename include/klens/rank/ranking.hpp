#pragma once

#include <cstddef>
#include <klens/rank/bootstrap.hpp>
#include <klens/rank/interval.hpp>
#include <klens/rank/scores.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace klens {

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

/// Ranks the candidates of one scheme by a metric. Those whose outcome says nothing about damage have no place.
/// Throws argument_error where the metric was not measured.
[[nodiscard]] inline ranking ranking_of(const scores& all, std::string_view metric, std::string_view scheme,
                                        const bootstrap_options& options = {}) {
  const std::size_t m = all.index_of(metric);
  ranking result{std::string{scheme}, std::string{metric}, {}, 0};
  std::vector<sequence_sums> sums;
  for (const layer_score* each : all.ranked(metric)) {
    if (each->scheme != scheme || each->result == outcome::output_unchanged || each->result == outcome::not_measured) continue;
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

}  // namespace klens
