#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/detail/random.hpp>
#include <klens/metric/position.hpp>
#include <klens/rank/interval.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/scores.hpp>
#include <klens/rank/stopping.hpp>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace klens::detail {

/// What is believed of one candidate: its log KL, without what all have in common.
struct belief {
  double log_mean = 0;
  double variance = 0;
  std::vector<double> draws;  // of the log KL; those of one number belong together across candidates
};

/// Joins predictions with measurements, and says which candidates are worth measuring.
///   The log KL of a candidate on a few sequences is its own, plus how hard these are for all, plus noise whose variance is known
///   from the calibrations. Estimates are joined by the inverses of their variances, in logarithms: ratios between candidates are
///   steadier than differences.
/// Source     ratio estimators: W. G. Cochran, Sampling Techniques (1977), chapter 6; conjugate normal means: A. Gelman et al.,
///            Bayesian Data Analysis (2013), section 2.5.
class refinement {
 public:
  /// `variance_of_sequence`: of the log KL on one sequence, without what all candidates have in common.
  refinement(std::vector<belief> beliefs, double variance_of_sequence, std::uint64_t seed)
      : beliefs_{std::move(beliefs)}, variance_of_sequence_{variance_of_sequence}, random_{seed, 2} {}

  /// Enters the KL of candidates on further sequences, the same for all: {candidate, sums by sequence}.
  void learn(const std::map<std::size_t, std::vector<contribution>>& measured) {
    double hardness = 0, weights = 0;
    std::map<std::size_t, double> logs;
    for (const auto& [c, sums] : measured) {
      const double kl = mean_of(sums);
      if (!(kl > 0) || std::isinf(kl)) continue;
      const double weight = 1 / (beliefs_[c].variance + noise_of(sums));
      hardness += weight * (std::log(kl) - beliefs_[c].log_mean);
      weights += weight;
      logs[c] = std::log(kl);
    }
    for (const auto& [c, log_kl] : logs) {
      belief& each = beliefs_[c];
      const double noise = noise_of(measured.at(c)), observed = log_kl - hardness / weights;
      const double kept = noise / (each.variance + noise);
      each.log_mean = kept * each.log_mean + (1 - kept) * observed;
      each.variance = kept * each.variance;
      for (double& draw : each.draws) draw = kept * draw + (1 - kept) * (observed + std::sqrt(noise) * random_.normal());
    }
  }

  /// The candidates worth measuring, scheme by scheme: all but the surest, who may together be wrong by half of what the rule
  /// tolerates. None where the answer is sure enough.
  [[nodiscard]] std::vector<std::size_t> contested(const scores& found, const any_stopping_rule& rule,
                                                   double confidence) const {
    std::map<std::string, std::vector<std::size_t>> schemes;
    for (std::size_t c = 0; c < beliefs_.size(); ++c) schemes[found.candidates[c].scheme].push_back(c);
    std::vector<std::size_t> open;
    for (const auto& [scheme, members] : schemes) {
      damage_draws of;
      for (const std::size_t c : members) of.estimates.push_back(beliefs_[c].log_mean);
      of.draws.resize(beliefs_[members.front()].draws.size());
      for (std::size_t d = 0; d < of.draws.size(); ++d)
        for (const std::size_t c : members) of.draws[d].push_back(beliefs_[c].draws[d]);
      const doubts answer = rule.doubts_of(of, confidence);
      double left = answer.tolerated * static_cast<double>(members.size());
      if (std::accumulate(answer.chances.begin(), answer.chances.end(), 0.) <= left) continue;
      left /= 2;
      std::vector<std::size_t> order(members.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::ranges::stable_sort(order, {}, [&answer](std::size_t i) { return answer.chances[i]; });
      for (const std::size_t i : order)
        if (left -= answer.chances[i]; left < 0) open.push_back(members[i]);
    }
    return open;
  }

  [[nodiscard]] const belief& of(std::size_t candidate) const { return beliefs_[candidate]; }

 private:
  [[nodiscard]] double noise_of(const std::vector<contribution>& sums) const {
    return variance_of_sequence_ / static_cast<double>(sums.size());
  }

  std::vector<belief> beliefs_;
  double variance_of_sequence_;
  random_stream random_;
};

}  // namespace klens::detail
