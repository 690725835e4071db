#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/random.hpp>
#include <klens/error.hpp>
#include <klens/rank/local/calibration_choice.hpp>
#include <klens/rank/local/gain_model.hpp>
#include <klens/rank/local/local_batch.hpp>
#include <klens/rank/local/local_evidence.hpp>
#include <klens/rank/scores.hpp>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Where a candidate's layer stands in its model.
struct gain_place {
  std::size_t stage = 0;
  std::size_t stages = 1;  ///< of the model

  [[nodiscard]] double depth() const noexcept { return static_cast<double>(stage) / static_cast<double>(stages); }
};

/// What a local scan learns of its candidates, numbered as in scores::candidates, and what it believes of them. Candidates that
/// keep the same weights are one item here, known by the first of them, which is measured for all.
class local_scores {
 public:
  /// Candidates come in order. `measured_for`: the first that keeps the same weights. `scheme`: what the layer is kept as.
  /// `local`: the candidate acts through its own stage alone.
  void add(std::size_t measured_for, const gain_place& place, const std::string& kind, std::size_t layer_index,
           const std::string& scheme, bool local) {
    if (measured_for < item_of_.size()) {
      item_of_.push_back(item_of_[measured_for]);
      return;
    }
    item_of_.push_back(all_.size());
    measured_.push_back(measured_for);
    all_.emplace_back().is_local = local;
    const auto number_of = [](std::map<std::string, std::size_t>& known, const std::string& name) {
      return known.try_emplace(name, known.size()).first->second;
    };
    items_.push_back({place.depth(), number_of(kinds_, kind), layer_index, number_of(schemes_, scheme), place.stage});
  }
  [[nodiscard]] std::size_t size() const noexcept { return item_of_.size(); }
  /// Those that are measured, be it for others as well.
  [[nodiscard]] const std::vector<std::size_t>& measured() const noexcept { return measured_; }
  [[nodiscard]] std::size_t layer_of(std::size_t candidate) const { return items_[item_of_[candidate]].layer; }
  [[nodiscard]] bool is_local(std::size_t candidate) const { return of(candidate).is_local; }

  /// Energies and KLs at the measured positions of the current batch.
  void add_energies(std::size_t candidate, std::vector<double> by_position) {
    energies_[item_of_[candidate]] = std::move(by_position);
  }
  void add_kls(std::size_t candidate, std::vector<double> by_position) { kls_[item_of_[candidate]] = std::move(by_position); }

  /// Chooses by the energies of the first batch which candidates are measured; 0: as many as the number of candidates asks for.
  void choose(std::size_t count, std::size_t batches, std::uint64_t seed) {
    std::vector<double> sums(all_.size(), 0);
    for (const auto& [c, energies] : energies_) sums[c] = std::accumulate(energies.begin(), energies.end(), 0.0);
    calibrations_ = choose_calibrations(items_, sums, count ? count : calibrations_for(all_.size()), seed);
    batches_ = batches;
    seed_ = seed;
    for (std::size_t c = 0; c < all_.size(); ++c) {
      const auto [known, is_new] = of_layers_.try_emplace(items_[c].layer, c);
      if (!is_new && sums[c] > sums[known->second]) known->second = c;
    }
  }
  /// Those that are measured on a batch.
  [[nodiscard]] std::vector<std::size_t> calibrations(std::size_t batch) const {
    std::vector<std::size_t> which = calibrations_of_batch(calibrations_.size(), batch, batches_);
    for (std::size_t& each : which) each = measured_[calibrations_[each]];
    return which;
  }
  /// Whether a candidate's energies stand for those of its layer in batches after the first, where only one of them is looked at.
  [[nodiscard]] bool stands_for_layer(std::size_t candidate) const {
    return of_layers_.at(layer_of(candidate)) == item_of_[candidate];
  }

  /// Takes in the batch: so many measured positions in each of its sequences. Of those that had no energies others of their layer
  /// tell; in a batch without energies at all, only KLs are new.
  void close_batch(const std::vector<std::size_t>& measured_in_sequences) {
    std::size_t first = 0;
    for (const std::size_t count : measured_in_sequences) {
      if (count == 0) continue;
      const std::vector<double> weights = position_weights(energies_, kls_, first, count), even(count, 1.0);
      const auto energies = noisy_means(energies_, weights, first), kls = noisy_means(kls_, even, first);
      if (!energies.empty()) take_energies(energies, count);
      for (const auto& [c, of] : kls_) {  // those that are 0 or infinite have no noise
        const auto kl = kls.find(c), energy = energies.find(c);
        const noisy_mean mean =
            kl == kls.end() ? noisy_mean{sum_of(of, first, count) / static_cast<double>(count)} : kl->second;
        all_[c].kls.push_back({mean, energy == energies.end() ? 0 : energy->second.value, sequences_, count});
      }
      for (const auto& [c, of] : energies_) {
        all_[c].plain_energy += sum_of(of, first, count);
        all_[c].positions += count;
      }
      first += count;
      ++sequences_;
    }
    energies_.clear();
    kls_.clear();
  }

  /// The one of the current batch with energies and the highest finite KL, and that KL, summed over its positions; 0 without any.
  [[nodiscard]] std::pair<std::size_t, double> worst_measured() const {
    std::pair<std::size_t, double> worst{0, 0};
    for (const auto& [c, of] : kls_) {
      const double sum = sum_of(of, 0, of.size());
      if (energies_.contains(c) && is_finite(sum) && sum > worst.second) worst = {measured_[c], sum};
    }
    return worst;
  }

  /// Draws of all log KLs together, [draw][candidate], over a text of so many positions. Where nothing is drawn, what was
  /// measured stands: candidates that change nothing, and infinite ones. `floor`: KLs up to there teach nothing.
  /// Throws argument_error where there is nothing to learn gains from.
  [[nodiscard]] std::vector<std::vector<double>> draw(std::size_t count, double floor, double positions_in_all) {
    std::vector<gain_observation> seen;
    drowned_ = 0;
    ties_.assign(all_.size(), 0);
    mean_log_gains_.assign(all_.size(), 0);
    double per_position = 0;  // of the variance of a log KL
    bool to_predict = false;
    for (std::size_t c = 0; c < all_.size(); ++c) {
      to_predict = to_predict || (all_[c].is_modelled() && all_[c].kls.empty());
      if (!all_[c].is_modelled()) continue;
      bool taught = all_[c].kls.empty();
      for (const observed_kl& each : all_[c].kls) {
        if (!(each.kl.value > floor)) continue;
        taught = true;
        const double energy = each.energy > 0 ? each.energy : all_[c].energy();
        seen.push_back({c, each.sequence, std::log(each.kl.value / energy), each.kl.variance});
        per_position += each.kl.variance * static_cast<double>(each.positions);
      }
      drowned_ += taught ? 0 : 1;
    }
    if (to_predict && seen.size() < 2)
      throw argument_error{"of the candidates measured to learn gains from, " + std::to_string(drowned_) +
                           " drown in rounding or are infinite and " + std::to_string(seen.size()) +
                           " are left, fewer than 2; use the method exact"};
    std::vector<std::vector<double>> drawn(count);
    random_stream random{seed_, 1};
    if (seen.empty()) {
      for (std::vector<double>& each : drawn)
        each = of_candidates(log_kls(gain_draw{std::vector<double>(all_.size(), 0), 2}, 0, random));
      return drawn;
    }
    per_position /= static_cast<double>(seen.size());
    gain_model model{items_, seen, seed_};
    double noise_factor = 0;
    for (std::vector<double>& each : drawn) {
      const gain_draw gains = model.draw();
      noise_factor += gains.noise_factor / static_cast<double>(count);
      each = of_candidates(log_kls(gains, per_position / positions_in_all, random));
    }
    mean_log_gains_ = model.mean_log_gains();
    for (std::size_t c = 0; c < all_.size(); ++c)
      ties_[c] = 2 * std::sqrt(noise_factor * all_[c].variance_per_position(per_position) / positions_in_all);
    return drawn;
  }

  /// The log KL of a modelled candidate, as of the last draw: the middle of its draws, without their luck.
  [[nodiscard]] double expected_log_kl(std::size_t candidate) const {
    return std::log(of(candidate).energy()) + mean_log_gains_[item_of_[candidate]];
  }
  /// How near to another log KL that of each candidate can be for a scan of the whole text not to tell them apart: two of
  /// its standard errors, as of the last draw.
  [[nodiscard]] std::vector<double> ties() const { return ties_.empty() ? ties_ : of_candidates(ties_); }
  /// How many measured candidates taught nothing, at the last draw.
  [[nodiscard]] std::size_t drowned() const noexcept { return drowned_; }
  /// Whether what is believed of a candidate comes from the gain model.
  [[nodiscard]] bool is_modelled(std::size_t candidate) const { return of(candidate).is_modelled(); }
  /// Mean of |change|^2 / |residual|^2 over the positions where it was looked at; NaN where it never was.
  [[nodiscard]] double plain_energy(std::size_t candidate) const {
    return of(candidate).plain_energy / static_cast<double>(of(candidate).positions);
  }
  [[nodiscard]] std::size_t positions(std::size_t candidate) const { return of(candidate).positions; }

 private:
  [[nodiscard]] const local_evidence& of(std::size_t candidate) const { return all_[item_of_[candidate]]; }

  [[nodiscard]] std::vector<double> of_candidates(const std::vector<double>& of_items) const {
    std::vector<double> all;
    all.reserve(item_of_.size());
    for (const std::size_t item : item_of_) all.push_back(of_items[item]);
    return all;
  }

  [[nodiscard]] static double sum_of(const std::vector<double>& values, std::size_t first, std::size_t count) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(first);
    return std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(count), 0.0);
  }

  void take_energies(const std::map<std::size_t, noisy_mean>& energies, std::size_t count) {
    const auto positions = static_cast<double>(count);
    const auto take = [&](local_evidence& of, double value, double variance) {
      of.weighted += value * positions;
      of.weight += positions;
      of.variance += variance * positions * positions;
    };
    std::map<std::size_t, std::pair<double, double>> of_layers;  // by how much a layer's energies grow, and their variance
    for (const auto& [c, mean] : energies)
      if (all_[c].energy() > 0) of_layers[items_[c].layer] = {mean.value / all_[c].energy(), mean.variance};
    std::vector<std::size_t> others;
    for (std::size_t c = 0; c < all_.size(); ++c)
      if (!energies.contains(c) && all_[c].energy() > 0 && of_layers.contains(items_[c].layer)) others.push_back(c);
    for (const std::size_t c : others) {
      const auto& [ratio, variance] = of_layers.at(items_[c].layer);
      take(all_[c], ratio * all_[c].energy(), variance);
    }
    for (const auto& [c, mean] : energies) take(all_[c], mean.value, mean.variance);
  }

  /// One draw: gains times energies, with what sampling leaves open of energies and of the text's own KL.
  [[nodiscard]] std::vector<double> log_kls(const gain_draw& gains, double variance_of_text, random_stream& random) const {
    constexpr double of_sequence = 0.2 * 0.2;
    std::vector<double> logs;
    logs.reserve(all_.size());
    for (std::size_t c = 0; c < all_.size(); ++c) {
      const local_evidence& each = all_[c];
      double at = std::log(0.0), variance = 0;
      if (each.is_modelled()) {
        at = std::log(each.energy()) + gains.log_gains[c];
        variance = gains.noise_factor * (each.energy_variance() + variance_of_text);
      } else if (!each.kls.empty()) {
        at = std::log(each.mean_kl());
        const auto n = static_cast<double>(each.kls.size());
        for (const observed_kl& seen : each.kls) variance += (gains.noise_factor * seen.kl.variance + of_sequence) / (n * n);
      }
      logs.push_back(at + std::sqrt(variance) * random.normal());
    }
    return logs;
  }

  std::vector<std::size_t> item_of_;   // by candidate
  std::vector<std::size_t> measured_;  // by item: its first candidate
  std::vector<local_evidence> all_;    // this and what follows: by item
  std::vector<double> ties_, mean_log_gains_;
  std::vector<gain_item> items_;
  std::map<std::string, std::size_t> kinds_, schemes_;
  std::vector<std::size_t> calibrations_;
  std::map<std::size_t, std::size_t> of_layers_;
  std::size_t batches_ = 1, sequences_ = 0, drowned_ = 0;
  std::uint64_t seed_ = 0;
  values_by_candidate energies_, kls_;  // of the current batch
};

}  // namespace klens::detail
