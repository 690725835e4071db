#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/random.hpp>
#include <klens/rank/local/cholesky.hpp>
#include <map>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// What the gain of a candidate may depend on.
struct gain_item {
  double depth = 0;  ///< its stage / all stages
  std::size_t kind = 0;
  std::size_t layer = 0;
  std::size_t scheme = 0;
};

/// Predicts log gains (nats of KL for a unit of local energy) from a few that were measured: a Gaussian process whose covariance
/// says that gains drift with depth, those of one kind of layer along a path of their own, and that those of one layer under
/// two schemes are alike.
///   Its standard deviations are what the gains of two trained hybrid models show (docs/theory.md, section 6); how far they fit
///   the model at hand is seen from the measured gains, each predicted from the others, and scales every deviation.
/// Source     kriging: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5.4.2
class gain_model {
 public:
  explicit gain_model(std::vector<gain_item> items) : items_{std::move(items)} {}

  /// Which `count` of the `eligible` candidates, at most one of a layer, tell most about all: each is the one that takes most
  /// variance away. Equals are taken in an order drawn by the seed, and nearly equals are equals, so that rounding decides
  /// nothing. Of many hundreds a sample stands for all.
  [[nodiscard]] std::vector<std::size_t> design(std::size_t count, std::vector<std::size_t> eligible,
                                                std::uint64_t seed) const {
    random_stream{seed}.shuffle(eligible);
    eligible.resize(std::min(eligible.size(), sample));
    columns left = covariance(eligible, eligible);
    std::vector<std::size_t> chosen;
    std::vector<bool> taken(eligible.size(), false);
    while (chosen.size() < std::min(count, eligible.size())) {
      std::size_t best = eligible.size();
      double most = 0;
      for (std::size_t i = 0; i < eligible.size(); ++i) {
        if (taken[i]) continue;
        const double removed = dot(left[i], left[i]) / (left[i][i] + noise);
        if (removed > most * (1 + 1e-6)) std::tie(most, best) = std::pair{removed, i};
      }
      if (best == eligible.size()) break;
      chosen.push_back(eligible[best]);
      for (std::size_t i = 0; i < eligible.size(); ++i)
        taken[i] = taken[i] || items_[eligible[i]].layer == items_[eligible[best]].layer;
      const std::vector<double> column(left[best].begin(), left[best].end());
      for (std::size_t i = 0; i < column.size(); ++i) subtract(left[i], column[i] / (column[best] + noise), column);
    }
    return chosen;
  }

  /// Learns from the measured log gains, at least two of them.
  void fit(std::vector<std::size_t> measured, const std::vector<double>& log_gains) {
    measured_ = std::move(measured);
    const auto n = static_cast<double>(measured_.size());
    center_ = std::accumulate(log_gains.begin(), log_gains.end(), 0.0) / n;
    std::vector<std::size_t> all(items_.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    with_measured_ = covariance(measured_, all);
    columns noisy = covariance(measured_, measured_);
    for (std::size_t i = 0; i < measured_.size(); ++i) noisy[i][i] += noise;
    solver_ = cholesky{std::move(noisy)};
    departures_ = log_gains;
    for (double& each : departures_) each -= center_;
    weights_ = solver_.solve(departures_);
    // Each measured gain, predicted from all others, misses by w_i / K^-1_ii with variance 1 / K^-1_ii.
    const std::vector<double> inverse = solver_.inverse_diagonal();
    double misses = 0;
    for (std::size_t i = 0; i < inverse.size(); ++i) misses += weights_[i] * weights_[i] / inverse[i];
    scale_ = std::sqrt(std::max(misses / n, 0.5));
  }

  /// Of a candidate that was not measured: the log gain, and its standard deviation.
  [[nodiscard]] double mean(std::size_t item) const { return center_ + dot(with_measured_[item], weights_); }
  [[nodiscard]] double deviation(std::size_t item) const {
    const double explained = dot(with_measured_[item], solver_.solve(with_measured_[item]));
    return scale_ * std::sqrt(std::max(covariance(items_[item], items_[item]) - explained, 0.0));
  }

  /// One draw of all log gains together, given the measured ones: a draw of the model before them, corrected by what it misses
  /// there (G. Matheron's rule).
  [[nodiscard]] std::vector<double> draw(random_stream& random) const {
    std::vector<double> gains = draw_unconditioned(random);
    std::vector<double> missed(measured_.size());
    for (std::size_t i = 0; i < measured_.size(); ++i)
      missed[i] = departures_[i] / scale_ - (gains[measured_[i]] + std::sqrt(noise) * random.normal());
    const std::vector<double> correction = solver_.solve(missed);
    for (std::size_t i = 0; i < gains.size(); ++i)
      gains[i] = center_ + scale_ * (gains[i] + dot(with_measured_[i], correction));
    return gains;
  }

 private:
  // Variances of log gains.
  static constexpr double of_level = 4;                           // hardly anything is known of the level
  static constexpr double of_depth = 0.4 * 0.4, depth_range = 2;  // correlation falls to 1/e over so many models' depths
  static constexpr double of_kind = 0.25 * 0.25, kind_range = 1;
  static constexpr double of_scheme = 0.05 * 0.05, of_layer = 0.05 * 0.05, of_candidate = 0.05 * 0.05;
  static constexpr double noise = 0.03 * 0.03;  // of a measured gain: KL and energy are of the same positions
  static constexpr std::size_t sample = 400;
  static constexpr double unbounded_depth = 1e9;

  [[nodiscard]] static double covariance(const gain_item& a, const gain_item& b) {
    const bool same_layer = a.layer == b.layer, same_scheme = a.scheme == b.scheme;
    const double apart = std::abs(a.depth - b.depth);
    return of_level + of_depth * std::exp(-apart / depth_range) +
           (a.kind == b.kind ? of_kind * std::exp(-apart / kind_range) : 0) + (same_scheme ? of_scheme : 0) +
           (same_layer ? of_layer : 0) + (same_layer && same_scheme ? of_candidate : 0);
  }
  [[nodiscard]] columns covariance(const std::vector<std::size_t>& of_rows, const std::vector<std::size_t>& of_columns) const {
    columns all(of_rows.size(), of_columns.size());
    for (std::size_t c = 0; c < of_columns.size(); ++c)
      for (std::size_t r = 0; r < of_rows.size(); ++r) all[c][r] = covariance(items_[of_rows[r]], items_[of_columns[c]]);
    return all;
  }

  // A stationary Gaussian Markov process at all depths: each value needs the one before it only.
  [[nodiscard]] std::map<double, double> draw_path(double variance, double range, random_stream& random) const {
    std::map<double, double> path;
    for (const gain_item& each : items_) path.emplace(each.depth, 0);
    double before = -unbounded_depth, value = 0;
    for (auto& [depth, at] : path) {
      const double kept = std::exp(-(depth - before) / range);
      at = value = kept * value + std::sqrt(variance * (1 - kept * kept)) * random.normal();
      before = depth;
    }
    return path;
  }

  [[nodiscard]] std::vector<double> draw_unconditioned(random_stream& random) const {
    const double level = std::sqrt(of_level) * random.normal();
    const std::map<double, double> common = draw_path(of_depth, depth_range, random);
    std::map<std::size_t, std::map<double, double>> of_kinds;
    for (const gain_item& each : items_)
      if (!of_kinds.contains(each.kind)) of_kinds.emplace(each.kind, draw_path(of_kind, kind_range, random));
    std::map<std::size_t, double> of_layers, of_schemes;
    const auto effect = [&random](std::map<std::size_t, double>& known, std::size_t which, double variance) {
      const auto [at, is_new] = known.try_emplace(which, 0);
      if (is_new) at->second = std::sqrt(variance) * random.normal();
      return at->second;
    };
    std::vector<double> gains;
    for (const gain_item& each : items_)
      gains.push_back(level + common.at(each.depth) + of_kinds.at(each.kind).at(each.depth) +
                      effect(of_layers, each.layer, of_layer) + effect(of_schemes, each.scheme, of_scheme) +
                      std::sqrt(of_candidate) * random.normal());
    return gains;
  }

  std::vector<gain_item> items_;
  std::vector<std::size_t> measured_;
  columns with_measured_;  // covariances [measured x items]
  cholesky solver_;
  std::vector<double> departures_, weights_;
  double center_ = 0;
  double scale_ = 1;
};

}  // namespace klens::detail
