#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/random.hpp>
#include <klens/error.hpp>
#include <klens/metric/metric.hpp>
#include <klens/rank/local/gain_model.hpp>
#include <klens/rank/local/refinement.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <klens/rank/scores.hpp>
#include <klens/stats/interval.hpp>
#include <klens/stats/student_t.hpp>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// What a local scan learns of its candidates, numbered as in scores::candidates, and what follows from it.
class local_scores {
 public:
  /// `local`: the candidate acts through its own stage alone.
  void add(std::size_t candidate, double depth, const std::string& kind, std::size_t layer_index, std::size_t scheme_index,
           bool local) {
    all_.resize(std::max(all_.size(), candidate + 1));
    all_[candidate].is_local = local;
    items_.resize(all_.size());
    items_[candidate] = {depth, kinds_.try_emplace(kind, kinds_.size()).first->second, layer_index, scheme_index};
  }

  void choose_calibrations(std::size_t count, std::uint64_t seed) {
    std::vector<std::size_t> eligible;
    for (std::size_t c = 0; c < all_.size(); ++c)
      if (all_[c].is_local) eligible.push_back(c);
    model_ = gain_model{items_};
    for (const std::size_t c : model_.design(count, eligible, seed)) all_[c].is_calibration = true;
    seed_ = seed;
  }
  [[nodiscard]] std::size_t size() const noexcept { return all_.size(); }
  [[nodiscard]] std::size_t layer_of(std::size_t candidate) const { return items_[candidate].layer; }
  [[nodiscard]] bool is_calibration(std::size_t candidate) const { return all_[candidate].is_calibration; }

  void add_energy(std::size_t candidate, contribution energy) {
    all_[candidate].energy.value += energy.value;
    all_[candidate].energy.weight += energy.weight;
  }
  void add_kl(std::size_t candidate, const batch_damage& damage) {
    for (const auto& sequence : damage.sums) all_[candidate].kl.push_back(sequence.front().total);
  }

  /// The calibration with the highest KL until now.
  [[nodiscard]] std::optional<std::size_t> worst_calibration() {
    std::optional<std::size_t> worst;
    for (std::size_t c = 0; c < all_.size(); ++c)
      if (all_[c].is_calibration && !all_[c].kl.empty() && !(worst && mean_of(all_[*worst].kl) >= mean_of(all_[c].kl)))
        worst = c;
    if (worst) curved_ = {*worst, total(all_[*worst].kl), 0, 0};
    return worst;
  }
  /// Its KL, summed over positions, with half and with twice the energy.
  void set_curvature(double half, double twice) {
    curved_.half = half / curved_.whole;
    curved_.twice = twice / curved_.whole;
  }

  /// Fills in the predictions. Throws argument_error where there is nothing to learn the gains from.
  void predict(scores& found) {
    const double floor = found.noise.empty() ? 0 : 3 * mean_of(found.noise.front().by_sequence);
    std::vector<std::size_t> measured;
    std::vector<double> log_gains;
    std::size_t drowned = 0;
    for (std::size_t c = 0; c < all_.size(); ++c) {
      entry& each = all_[c];
      layer_score& score = found.candidates[c];
      if (!each.is_local || each.energy.weight == 0) continue;
      score.local_energy = each.energy.value / each.energy.weight;
      if (each.kl.empty() || score.local_energy == 0) continue;
      const double kl = mean_of(each.kl);
      if (!(kl > floor) || detail::is_infinite(kl)) {
        ++drowned;
        continue;
      }
      score.gain = kl / score.local_energy;
      measured.push_back(c);
      log_gains.push_back(std::log(score.gain));
    }
    bool any_to_predict = false;
    for (const layer_score& each : found.candidates) any_to_predict = any_to_predict || to_predict(found, each);
    if (any_to_predict && measured.size() < 2)
      throw argument_error{"of the candidates measured to learn gains from, " + std::to_string(drowned) +
                           " drown in rounding or are infinite and " + std::to_string(measured.size()) +
                           " are left, fewer than 2; use the method exact"};
    spread_ = spread_between_sequences(measured);
    fitted_ = measured.size() >= 2;
    if (fitted_) model_.fit(measured, log_gains);
    for (std::size_t c = 0; c < all_.size(); ++c)
      if (to_predict(found, found.candidates[c])) predict_one(found.candidates[c], c, measured.size());
    remark(found, drowned, floor);
  }

  /// What is believed of all candidates after predict(), to be refined by measuring some of them.
  [[nodiscard]] refinement refine(const scores& found) const {
    if (spread_.sequences == 0)
      throw argument_error{"the method refine needs options.local.batches with at least two sequences"};
    constexpr std::size_t draws = 128;
    random_stream random{seed_, 1};
    std::vector<belief> beliefs(all_.size());
    for (std::size_t c = 0; c < all_.size(); ++c) {
      const bool predicted = found.candidates[c].source == score_source::local;
      const double of_model = predicted ? model_.deviation(c) : 0;
      beliefs[c] = {std::log(found.candidates[c].metrics.front().mean), of_model * of_model + spread_.own_of_mean(), {}};
    }
    for (std::size_t d = 0; d < draws; ++d) {
      const std::vector<double> gains = fitted_ ? model_.draw(random) : std::vector<double>(all_.size(), 0);
      for (std::size_t c = 0; c < all_.size(); ++c) {
        const layer_score& each = found.candidates[c];
        const double log_kl = each.source == score_source::local ? std::log(each.local_energy) + gains[c] : beliefs[c].log_mean;
        beliefs[c].draws.push_back(log_kl + std::sqrt(spread_.own_of_mean()) * random.normal());
      }
    }
    return {std::move(beliefs), spread_.own, seed_};
  }

  /// Puts what was measured while refining together with what was known before.
  void join(scores& found, const refinement& refined) const {
    const double common = std::sqrt(std::max(spread_.all * spread_.all - spread_.own_of_mean(), 0.));
    for (std::size_t c = 0; c < all_.size(); ++c) {
      layer_score& each = found.candidates[c];
      metric_score& kl = each.metrics.front();
      const belief& known = refined.of(c);
      if (each.source == score_source::local || each.result != outcome::measured || detail::is_infinite(known.log_mean))
        continue;
      kl.mean = std::exp(known.log_mean);
      if (each.local_energy > 0) each.gain = kl.mean / each.local_energy;
      set_interval(kl, student_t_quantile(0.025, unbounded) * std::sqrt(known.variance), common);
    }
  }

 private:
  struct entry {
    bool is_local = false;
    bool is_calibration = false;
    contribution energy{0, 0};
    std::vector<contribution> kl;  // by sequence
  };
  struct curvature {
    std::size_t candidate = 0;
    double whole = 0, half = 0, twice = 0;
  };
  struct spread {
    double all = metric_score::unknown;  // relative standard error of a mean over the sequences
    sequence_spread own;                 // without what all candidates have in common
    double sequences = 0;

    [[nodiscard]] double own_of_mean() const { return sequences > 0 ? own.variance() / sequences : 0; }
  };

  [[nodiscard]] static double total(const std::vector<contribution>& sums) {
    double value = 0;
    for (const contribution& each : sums) value += each.value;
    return value;
  }

  [[nodiscard]] bool to_predict(const scores& found, const layer_score& each) const {
    const auto c = static_cast<std::size_t>(&each - found.candidates.data());
    return all_[c].is_local && all_[c].kl.empty() && each.result == outcome::not_measured;
  }

  [[nodiscard]] spread spread_between_sequences(const std::vector<std::size_t>& measured) const {
    if (measured.size() < 2 || all_[measured.front()].kl.size() < 2) return {};
    spread found;
    std::vector<std::vector<contribution>> sums;
    double squares = 0;
    for (const std::size_t c : measured) {
      sums.push_back(all_[c].kl);
      for (const double move : influences(sums.back())) squares += std::pow(move / mean_of(sums.back()), 2);
    }
    found.own.add(sums);
    found.sequences = static_cast<double>(sums.front().size());
    found.all = std::sqrt(squares / static_cast<double>(measured.size()) / (found.sequences - 1) / found.sequences);
    return found;
  }

  void predict_one(layer_score& score, std::size_t c, std::size_t calibrations) const {
    metric_score& kl = score.metrics.front();
    score.positions = static_cast<std::size_t>(all_[c].energy.weight);
    if (score.local_energy == 0) {
      score.result = outcome::output_unchanged;
      kl.mean = kl.low = kl.high = 0;
      return;
    }
    score.result = outcome::measured;
    score.source = score_source::local;
    score.gain = std::exp(model_.mean(c));
    kl.mean = score.local_energy * score.gain;
    if (detail::is_nan(spread_.all)) return;
    set_interval(kl, student_t_quantile(0.025, static_cast<double>(calibrations) - 1) * model_.deviation(c), spread_.all);
  }

  // From the half width, in logarithms, that is not the sequences' doing, and the relative standard error that is.
  void set_interval(metric_score& kl, double half_width, double of_sequences) const {
    const double sampled = student_t_quantile(0.025, spread_.sequences - 1) * of_sequences;
    const double both = std::sqrt(half_width * half_width + sampled * sampled);
    kl.low = kl.mean * std::exp(-both);
    kl.high = kl.mean * std::exp(both);
  }

  void remark(scores& found, std::size_t drowned, double floor) const {
    const auto name_of = [&found](std::size_t c) { return found.candidates[c].layer + " as " + found.candidates[c].scheme; };
    if (curved_.whole > 0 && (std::abs(curved_.half / 0.5 - 1) > tolerated || std::abs(curved_.twice / 2 - 1) > tolerated))
      found.remarks.push_back(
          "damage is not quadratic in the perturbation: with half and twice its energy " + name_of(curved_.candidate) +
          " loses " + std::to_string(curved_.half) + " and " + std::to_string(curved_.twice) +
          " times its KL, not 0.5 and 2; predictions for such schemes are rough, use the method refine or exact");
    if (drowned > 0)
      found.remarks.push_back(std::to_string(drowned) +
                              " of the measured candidates drown in rounding or are infinite and teach no gain");
    std::size_t quiet = 0;
    for (const layer_score& each : found.candidates)
      quiet += each.source == score_source::local && each.metrics.front().mean < floor ? 1 : 0;
    if (quiet > 0)
      found.remarks.push_back(std::to_string(quiet) +
                              " predicted scores are below three times what rounding does, and mean nothing");
  }

  static constexpr double tolerated = 0.15;  // there the damage grows no faster than the 1.6th power of the change

  std::vector<entry> all_;
  std::vector<gain_item> items_;
  std::map<std::string, std::size_t> kinds_;
  gain_model model_{{}};
  spread spread_;
  curvature curved_;
  bool fitted_ = false;
  std::uint64_t seed_ = 0;
};

}  // namespace klens::detail
