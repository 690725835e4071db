#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/random.hpp>
#include <klens/metric/metric.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/scores.hpp>
#include <klens/rank/stopping.hpp>
#include <klens/stats/interval.hpp>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// How much log KLs vary between sequences, without what all candidates have in common there: a variance and what it rests on.
struct sequence_spread {
  double squares = 0;
  double dof = 0;

  [[nodiscard]] double variance() const noexcept { return squares / dof; }

  /// Adds what candidates show on sequences that all of them have seen, two of each at least; the others are passed over.
  void add(const std::vector<std::vector<contribution>>& candidates) {
    std::vector<std::vector<double>> moves;
    for (const std::vector<contribution>& each : candidates) {
      const double mean = mean_of(each);
      if (each.size() < 2 || !(mean > 0) || detail::is_infinite(mean)) continue;
      moves.push_back(influences(each));
      for (double& move : moves.back()) move /= mean;
    }
    if (moves.size() < 2) return;
    const auto count = static_cast<double>(moves.size());
    for (std::size_t s = 0; s < moves.front().size(); ++s) {
      double common = 0;
      for (const std::vector<double>& each : moves) common += each[s] / count;
      for (const std::vector<double>& each : moves) squares += (each[s] - common) * (each[s] - common);
    }
    dof += (count - 1) * (static_cast<double>(moves.front().size()) - 1);
  }
};

/// What is believed of one candidate: its log KL, without what all have in common.
struct belief {
  double log_mean = 0;
  double variance = 0;
  std::vector<double> draws;  // of the log KL; those of one number belong together across candidates
};

/// Joins predictions with measurements, and says which candidates are worth measuring.
///   The log KL of a candidate on a few sequences is its own, plus how hard these are for all, plus noise whose variance all
///   measured candidates tell. Estimates are joined by the inverses of their variances, in logarithms: ratios between candidates are
///   steadier than differences.
/// Source     ratio estimators: W. G. Cochran, Sampling Techniques (1977), chapter 6; conjugate normal means: A. Gelman et al.,
///            Bayesian Data Analysis (2013), section 2.5.
class refinement {
 public:
  refinement(std::vector<belief> beliefs, const sequence_spread& known, std::uint64_t seed)
      : beliefs_{std::move(beliefs)}, spread_{known}, random_{seed, 2} {}

  /// Enters the KL of candidates on further sequences, the same for all: {candidate, sums by sequence}.
  void learn(const std::map<std::size_t, std::vector<contribution>>& measured) {
    std::vector<std::vector<contribution>> all;
    all.reserve(measured.size());
    for (const auto& [c, sums] : measured) all.push_back(sums);
    spread_.add(all);
    double hardness = 0, weights = 0;
    std::map<std::size_t, double> logs;
    for (const auto& [c, sums] : measured) {
      const double kl = mean_of(sums);
      if (!(kl > 0) || detail::is_infinite(kl)) continue;
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

  /// The candidates worth measuring, scheme by scheme: those in three times the doubt that the rule tolerates on average, or the
  /// most doubtful. None where the answer as a whole is sure enough.
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
      const double wrong = std::accumulate(answer.chances.begin(), answer.chances.end(), 0.);
      if (wrong <= answer.tolerated * static_cast<double>(members.size())) continue;
      const double most = *std::max_element(answer.chances.begin(), answer.chances.end());
      const double worth = std::min(3 * answer.tolerated, most);
      for (std::size_t i = 0; i < members.size(); ++i)
        if (answer.chances[i] >= worth) open.push_back(members[i]);
    }
    return open;
  }

  [[nodiscard]] const belief& of(std::size_t candidate) const { return beliefs_[candidate]; }

 private:
  [[nodiscard]] double noise_of(const std::vector<contribution>& sums) const {
    return spread_.variance() / static_cast<double>(sums.size());
  }

  std::vector<belief> beliefs_;
  sequence_spread spread_;
  random_stream random_;
};

}  // namespace klens::detail
