#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/text.hpp>
#include <klens/rank/local/local_scores.hpp>
#include <klens/rank/scores.hpp>
#include <klens/stats/rank_correlation.hpp>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The medians of the draws: one log KL a candidate.
[[nodiscard]] inline std::vector<double> medians_of(const std::vector<std::vector<double>>& draws) {
  std::vector<double> medians, column(draws.size());
  for (std::size_t c = 0; c < draws.front().size(); ++c) {
    for (std::size_t d = 0; d < draws.size(); ++d) column[d] = draws[d][c];
    const auto middle = column.begin() + static_cast<std::ptrdiff_t>(column.size() / 2);
    std::nth_element(column.begin(), middle, column.end());
    medians.push_back(*middle);
  }
  return medians;
}

/// Kendall's tau between the ranking by medians and that by the truth, as the draws let expect it: over candidates of the same
/// scheme, averaged over schemes. NaN where no scheme has two candidates.
[[nodiscard]] inline double expected_tau(const scores& found, const std::vector<std::vector<double>>& draws) {
  std::map<std::string, std::vector<std::size_t>> schemes;
  for (std::size_t c = 0; c < found.candidates.size(); ++c)
    if (found.candidates[c].says_damage()) schemes[found.candidates[c].scheme].push_back(c);
  const std::vector<double> medians = medians_of(draws);
  double total = 0, count = 0;
  for (const auto& [scheme, members] : schemes) {
    if (members.size() < 2) continue;
    std::vector<double> expected, drawn(members.size());
    for (const std::size_t c : members) expected.push_back(medians[c]);
    for (const std::vector<double>& draw : draws) {
      for (std::size_t i = 0; i < members.size(); ++i) drawn[i] = draw[members[i]];
      const double tau = kendall_tau(expected, drawn).value;
      if (is_nan(tau)) continue;
      total += tau;
      count += 1;
    }
  }
  return count > 0 ? total / count : metric_score::unknown;
}

/// Fills in what the draws of all log KLs say: predictions, 95 % intervals, gains, and how good the ranking is.
inline void enter_predictions(scores& found, const local_scores& known, const std::vector<std::vector<double>>& draws,
                              double floor) {
  std::vector<double> column(draws.size());
  std::size_t quiet = 0;
  for (std::size_t c = 0; c < found.candidates.size(); ++c) {
    layer_score& each = found.candidates[c];
    metric_score& kl = each.metrics.front();
    if (known.positions(c) > 0) each.local_energy = known.plain_energy(c);
    if (each.local_energy == 0) {
      each.result = outcome::output_unchanged;
      each.positions = known.positions(c);
      kl.mean = kl.low = kl.high = 0;
    }
    if (each.local_energy == 0 || (each.result != outcome::measured && !known.is_modelled(c))) continue;
    for (std::size_t d = 0; d < draws.size(); ++d) column[d] = std::exp(draws[d][c]);
    std::sort(column.begin(), column.end());
    const auto at = [&](double share) { return column[static_cast<std::size_t>(share * static_cast<double>(column.size()))]; };
    kl.low = at(0.025);
    kl.high = at(0.975);
    if (!known.is_modelled(c)) continue;
    each.result = outcome::measured;
    each.source = score_source::local;
    each.positions = std::max(each.positions, known.positions(c));
    each.gain = std::exp(known.expected_log_kl(c)) / each.local_energy;
    kl.mean = each.local_energy * each.gain;
    quiet += kl.mean < floor ? 1 : 0;
  }
  found.expected_tau = expected_tau(found, draws);
  if (known.drowned() > 0)
    found.remarks.push_back(std::to_string(known.drowned()) +
                            " of the measured candidates drown in rounding or are infinite and teach no gain");
  if (quiet > 0)
    found.remarks.push_back(std::to_string(quiet) +
                            " predicted scores are below three times what rounding does, and mean nothing");
  constexpr double good_enough = 0.6;
  if (!is_nan(found.expected_tau) && found.expected_tau < good_enough)
    found.remarks.push_back("the order is expected to agree with the exhaustive one at tau " +
                            number_text(std::round(found.expected_tau * 100) / 100) + " only; use the method exact");
}

}  // namespace klens::detail
