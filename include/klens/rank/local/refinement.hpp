#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/rank/any_stopping_rule.hpp>
#include <klens/rank/local/prediction.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/scores.hpp>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The candidates worth measuring, scheme by scheme, by draws of all log KLs, [draw][candidate], and what is a tie for each
/// (empty: nothing): the most doubtful ones, so many that what the rule tolerates is left among the others. None where the
/// answer as a whole is sure enough.
[[nodiscard]] inline std::vector<std::size_t> contested(const scores& found, const std::vector<std::vector<double>>& draws,
                                                        const std::vector<double>& ties, const any_stopping_rule& rule,
                                                        double confidence) {
  std::map<std::string, std::vector<std::size_t>> schemes;
  for (std::size_t c = 0; c < found.candidates.size(); ++c) schemes[found.candidates[c].scheme].push_back(c);
  const std::vector<double> medians = medians_of(draws);
  std::vector<std::size_t> open;
  for (const auto& [scheme, members] : schemes) {
    damage_draws of;
    for (const std::size_t c : members) {
      of.estimates.push_back(medians[c]);
      if (!ties.empty()) of.ties.push_back(ties[c]);
    }
    of.draws.resize(draws.size());
    for (std::size_t d = 0; d < draws.size(); ++d)
      for (const std::size_t c : members) of.draws[d].push_back(draws[d][c]);
    const doubts answer = rule.doubts_of(of, confidence);
    std::vector<std::size_t> order(members.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return answer.chances[a] > answer.chances[b]; });
    double wrong = std::accumulate(answer.chances.begin(), answer.chances.end(), 0.);
    for (const std::size_t i : order) {
      if (wrong <= answer.tolerated * static_cast<double>(members.size())) break;
      open.push_back(members[i]);
      wrong -= answer.chances[i];
    }
  }
  return open;
}

}  // namespace klens::detail
