#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/random.hpp>
#include <klens/rank/local/effect_group.hpp>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// What the gain of a candidate may depend on.
struct gain_item {
  double depth = 0;  ///< its stage / all stages
  std::size_t kind = 0;
  std::size_t layer = 0;
  std::size_t scheme = 0;
  std::size_t stage = 0;
};

/// A log gain (of nats of KL for a unit of local energy) as one sequence shows it. `variance` is the one that its positions tell.
struct gain_observation {
  std::size_t item = 0;
  std::size_t sequence = 0;
  double log_gain = 0;
  double variance = 0;
};

/// What the observations leave possible: the log gains of all candidates, and how many times the variance that positions tell is
/// the one between sequences.
struct gain_draw {
  std::vector<double> log_gains;
  double noise_factor = 1;
};

/// Predicts log gains from a few that were measured:
///   observed log gain = level + slope * depth + bend * depth^2 + scheme + kind + kind's slope * depth + stage + layer
///                       + candidate + sequence + sequence's slope * depth + noise
/// How much schemes, kinds, stages, layers and sequences differ is learned from the observations, with priors that let it be nothing
/// (effect_group); layers have heavy tails. A measured candidate keeps what was seen of itself, as far as the noise allows, and
/// one whose layer was not measured has the spread of layers as its doubt. All by Gibbs sampling, the same for the same seed.
/// Source     A. Gelman et al., Bayesian Data Analysis (2013), chapters 5, 11 and 15.
class gain_model {
 public:
  /// Learns from the observations, at least one; their variances are above 0. A chain of draws leaves another's path where their
  /// observations differ by a last bit, so both are rounded, far within their noise: to a 4096th of a nat, and by a 512th.
  gain_model(std::vector<gain_item> items, std::vector<gain_observation> seen, std::uint64_t seed)
      : items_{std::move(items)}, seen_{std::move(seen)}, random_{seed, 3} {
    std::size_t kinds = 0, layers = 0, schemes = 0, stages = 0, sequences = 0;
    for (const gain_item& each : items_) {
      kinds = std::max(kinds, each.kind + 1);
      layers = std::max(layers, each.layer + 1);
      schemes = std::max(schemes, each.scheme + 1);
      stages = std::max(stages, each.stage + 1);
    }
    for (gain_observation& each : seen_) {
      sequences = std::max(sequences, each.sequence + 1);
      each.log_gain = std::round(4096 * each.log_gain) / 4096;
      each.variance = std::exp(std::round(256 * std::log(each.variance)) / 256);
    }
    // Standard deviations of log gains, one wide: what the priors of spreads allow.
    groups_ = {{effect_group::learned(schemes, 0.3), false},      {effect_group::learned(kinds, 0.3), false},
               {effect_group::learned(kinds, 0.2), true},         {effect_group::learned(stages, 0.3), false},
               {effect_group::learned(layers, 0.5, true), false}, {effect_group::known(items_.size(), 0.05), false},
               {effect_group::learned(sequences, 0.2), false},    {effect_group::learned(sequences, 0.2), true}};
    for (const gain_observation& each : seen_) {
      const std::vector<effect_part> of_item = parts_of(each.item);
      for (std::size_t g = 0; g < of_item.size(); ++g) groups_[g].parts.push_back(of_item[g]);
      const double depth = centred(items_[each.item].depth);
      groups_[of_item.size()].parts.push_back({each.sequence, 1});
      groups_[of_item.size() + 1].parts.push_back({each.sequence, depth});
      ones_.push_back(1);
      depths_.push_back(depth);
      bends_.push_back(bend_at(depth));
      left_.push_back(each.log_gain);
      precision_.push_back(1 / (usual_noise * each.variance));
    }
    for (int i = 0; i < warm_up; ++i) sweep();
  }

  [[nodiscard]] gain_draw draw() {
    for (int i = 0; i < thinning; ++i) {
      sweep();
      note();
    }
    gain_draw drawn{{}, 1 / (precision_.front() * seen_.front().variance)};
    drawn.log_gains.reserve(items_.size());
    for (std::size_t c = 0; c < items_.size(); ++c) {
      const double depth = centred(items_[c].depth);
      drawn.log_gains.push_back(level_.value + slope_.value * depth + bend_.value * bend_at(depth));
      const std::vector<effect_part> parts = parts_of(c);
      for (std::size_t g = 0; g < parts.size(); ++g) drawn.log_gains.back() += groups_[g].effects.of(parts[g]);
    }
    return drawn;
  }

  /// The mean log gain of each candidate over all sweeps of the draws until now, at least one. Far steadier than what single draws
  /// say: what they add at random to a layer that was not measured is not in it.
  [[nodiscard]] std::vector<double> mean_log_gains() const {
    std::vector<double> means;
    means.reserve(items_.size());
    for (std::size_t c = 0; c < items_.size(); ++c) {
      const double depth = centred(items_[c].depth);
      means.push_back(level_.mean + slope_.mean * depth + bend_.mean * bend_at(depth));
      const std::vector<effect_part> parts = parts_of(c);
      for (std::size_t g = 0; g < parts.size(); ++g) means.back() += groups_[g].effects.mean_of(parts[g]);
    }
    return means;
  }

 private:
  struct group {
    effect_group effects;
    bool of_slopes = false;  // its members change the slope, not the level
    std::vector<effect_part> parts = {};
  };
  static constexpr int warm_up = 300, thinning = 16;
  // Of the factor's prior: sequences differ by more than the positions of one tell.
  static constexpr double usual_noise = 2;
  static constexpr int noise_dof = 6;

  [[nodiscard]] static double centred(double depth) noexcept { return 2 * depth - 1; }
  [[nodiscard]] static double bend_at(double depth) noexcept {
    return depth * depth - 1. / 3;
  }  // nothing of a level or a slope

  /// How the first groups enter a candidate, whatever the sequence.
  [[nodiscard]] std::vector<effect_part> parts_of(std::size_t item) const {
    const gain_item& of = items_[item];
    return {{of.scheme, 1}, {of.kind, 1}, {of.kind, centred(of.depth)}, {of.stage, 1}, {of.layer, 1}, {item, 1}};
  }

  void sweep() {
    level_.draw(ones_, left_, precision_, random_);
    slope_.draw(depths_, left_, precision_, random_);
    bend_.draw(bends_, left_, precision_, random_);
    for (group& each : groups_) each.effects.draw(each.parts, left_, precision_, each.of_slopes ? slope_ : level_, random_);
    double misses = noise_dof * usual_noise, chi_squared = 0;
    for (std::size_t i = 0; i < seen_.size(); ++i) misses += left_[i] * left_[i] / seen_[i].variance;
    for (std::size_t i = 0; i < seen_.size() + noise_dof; ++i) chi_squared += std::pow(random_.normal(), 2);
    for (std::size_t i = 0; i < seen_.size(); ++i) precision_[i] = chi_squared / misses / seen_[i].variance;
  }

  void note() {
    for (coefficient* each : {&level_, &slope_, &bend_}) each->note();
    for (group& each : groups_) each.effects.note();
  }

  std::vector<gain_item> items_;
  std::vector<gain_observation> seen_;
  random_stream random_;
  coefficient level_, slope_{.prior_precision = 1 / (0.3 * 0.3)}, bend_{.prior_precision = 1 / (0.3 * 0.3)};
  std::vector<group> groups_;
  std::vector<double> ones_, depths_, bends_;  // by observation
  std::vector<double> left_, precision_;       // of it: what no effect explains yet, and how sure it is
};

}  // namespace klens::detail
