#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/local/local_scores.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/candidate_run.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <klens/rank/scan/driver.hpp>
#include <klens/rank/scan/reference_pass.hpp>
#include <klens/rank/scan/scan_book.hpp>
#include <klens/rank/scan_error.hpp>
#include <klens/rank/scores.hpp>
#include <klens/weight_guard.hpp>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Scores candidates by what they do to the output of their own stage, times the gain of all that follows.
///   KL = 1/2 d' G d to second order, d the change at the stage's exit. With d measured relative to the residual stream that it
///   is added to, which the norms ahead divide by, gains vary little; they are learned from a few candidates that are measured.
/// A candidate of the head, or of a layer that several stages read, is measured: no one stage has all that it does.
class local_scan {
 public:
  local_scan(std::span<layer> layers, driver& forward, const std::vector<scheme>& schemes,
             const std::vector<any_metric>& metrics, const rank_options& options)
      : layers_{layers},
        forward_{forward},
        schemes_{schemes},
        metrics_{metrics},
        options_{without_stop(options)},
        stop_{options.stop},
        book_{layers, schemes, metrics, options_, forward_.stages()},
        wanted_(forward_.stages() + 1, false) {
    for (const layer& each : layers_) {
      expect_finite_weights(each);
      wanted_[each.stage] = true;
    }
    for (std::size_t l = 0; l < layers_.size(); ++l)
      for (const std::size_t candidate : book_.candidates_of(l)) {
        const double depth = static_cast<double>(layers_[l].stage) / static_cast<double>(forward_.stages());
        scores_.add(candidate, depth, layers_[l].kind, l, book_.scheme_of(candidate), is_local(layers_[l]));
      }
    scores_.choose_calibrations(options.local.calibrations, options.seed);
  }

  [[nodiscard]] scores run() {
    std::string place;
    try {
      std::size_t b = 0;
      for (; b < options_.local.batches; ++b) {
        place = "batch " + std::to_string(b);
        if (!run_batch(b)) return book_.finish(false);
      }
      place = "the prediction of scores";
      scores found = book_.finish(true);
      scores_.predict(found);
      if (options_.method == scan_method::local) return found;

      refinement refined = scores_.refine(found);
      for (; b < options_.batches; ++b) {
        contested_ = refined.contested(found, stop_, options_.confidence);
        if (contested_.empty()) break;
        place = "batch " + std::to_string(b);
        found.complete = run_batch(b);
        refined.learn(measured_);
        if (!found.complete) break;
      }
      const bool complete = found.complete;
      found = book_.finish(complete);
      scores_.predict(found);
      scores_.join(found, refined);
      return found;
    } catch (const std::exception& caught) {
      throw scan_error{with_lost_weights(place + ": " + caught.what(), layers_), book_.finish(false)};
    }
  }

 private:
  // The untouched model on one batch.
  struct batch {
    stage_entries entries;
    std::map<std::size_t, matrix<float>> exits;  // the residual stream after each stage that has candidates
    batch_reference reference;
  };

  static rank_options without_stop(rank_options options) {
    options.local.batches = std::min(options.batches, options.local.batches);
    options.stop = {};  // what it asks is answered here, not in the books
    return options;
  }
  [[nodiscard]] bool refining() const { return book_.batches_done() >= options_.local.batches; }

  [[nodiscard]] bool is_local(const layer& each) { return each.stage < forward_.stages() && each.last_stage <= each.stage; }

  bool run_batch(std::size_t index) {
    batch on;
    driver& forward = forward_;
    on.entries = run_stages(forward, index, wanted_, [&](any_state& at, std::size_t stage) {
      if (!refining()) on.exits.emplace(stage, forward_.residual(at));
    });
    on.reference = take_reference(forward, on.entries.rbegin()->second, book_.next_batch(), options_, index);
    book_.open_batch(on.reference);
    book_.spend(share_of_forward(forward, 0, on.reference));
    if (options_.noise_floor && index == 0) {
      book_.spend(share_of_forward(forward, 0, on.reference));
      book_.set_noise(damage_of_rounding(forward_, on.reference, metrics_, options_));
    }
    // How far refining has to go is known only once it is there: a batch at a time.
    book_.expect(refining() ? contested_.size() : scores_.size(), std::max(index + 1, options_.local.batches));
    measured_.clear();
    for (std::size_t l = 0; l < layers_.size(); ++l)
      if (!run_layer(l, on)) return false;
    if (index == 0) check_curvature(on);
    book_.close_batch();
    return true;
  }

  /// False: the caller wants to stop.
  bool run_layer(std::size_t l, const batch& on) {
    layer& perturbed = layers_[l];
    std::optional<weight_guard> guard;
    for (const std::size_t candidate : book_.candidates_of(l)) {
      if (refining() && std::find(contested_.begin(), contested_.end(), candidate) == contested_.end()) continue;
      const scheme& storage = schemes_[book_.scheme_of(candidate)];
      try {
        if (!guard) guard.emplace(perturbed);
        const weight_error error = guard->apply(storage, {.threads = options_.threads});
        run_candidate(candidate, perturbed, error, guard->changed(), on);
      } catch (const std::exception& caught) {
        throw error_at(perturbed, storage, caught);
      }
      if (!book_.report(candidate)) {
        guard->restore();
        return false;
      }
    }
    if (guard) guard->restore();
    return true;
  }

  void run_candidate(std::size_t candidate, const layer& perturbed, const weight_error& error, bool changed, const batch& on) {
    if (!changed) {
      book_.add(candidate, error, compare_with_itself(on.reference, metrics_, options_.threads), outcome::weights_unchanged);
      return;
    }
    const std::size_t stage = perturbed.stage;
    any_state at = on.entries.at(stage);
    if (is_local(perturbed) && !refining()) {
      run_stage(at, stage, on);
      const contribution energy = relative_energy(forward_.residual(at), on.exits.at(stage), on.reference);
      scores_.add_energy(candidate, energy);
      if (!scores_.is_calibration(candidate)) {
        book_.pass_over(candidate, error);
        return;
      }
      if (energy.value == 0) {
        enter(candidate, error, compare_with_itself(on.reference, metrics_, options_.threads));
        return;
      }
      enter(candidate, error, damage_from(at, stage + 1, on));
    } else {
      enter(candidate, error, damage_from(at, stage, on));
    }
  }

  /// Runs one stage, and counts it.
  void run_stage(any_state& at, std::size_t stage, const batch& on) {
    driver& forward = forward_;
    forward.advance(at, stage);
    book_.spend(share_of_forward(forward, stage, on.reference) - share_of_forward(forward, stage + 1, on.reference));
  }

  /// Runs all from a stage on, counts it, and compares.
  [[nodiscard]] batch_damage damage_from(any_state& at, std::size_t stage, const batch& on) {
    driver& forward = forward_;
    run_on(forward, at, stage);
    book_.spend(share_of_forward(forward, stage, on.reference));
    return compare_batch(forward, at, on.reference, metrics_, options_.threads);
  }

  void enter(std::size_t candidate, const weight_error& error, const batch_damage& damage) {
    book_.add(candidate, error, damage, damage.changed ? outcome::measured : outcome::output_unchanged);
    if (!refining()) scores_.add_kl(candidate, damage);
    for (const auto& sequence : damage.sums) measured_[candidate].push_back(sequence.front().total);
  }

  /// Is the damage quadratic in the perturbation? The most damaging calibration is run with half and with twice the energy.
  void check_curvature(const batch& on) {
    const std::optional<std::size_t> probe = scores_.worst_calibration();
    if (!probe) return;
    layer& perturbed = layers_[scores_.layer_of(*probe)];
    const std::size_t stage = perturbed.stage;
    any_state at = on.entries.at(stage);
    {
      weight_guard guard{perturbed};
      (void)guard.apply(schemes_[book_.scheme_of(*probe)], {.threads = options_.threads});
      run_stage(at, stage, on);
      guard.restore();
    }
    const auto kl_at = [&](float energy) {
      any_state probed = at;
      matrix_ref<float> residual = forward_.residual(probed);
      const matrix<float>& untouched = on.exits.at(stage);
      const float by = std::sqrt(energy);
      for (Eigen::Index r = 0; r < residual.rows(); ++r) {
        const std::span<float> moved = row(residual, r);
        const std::span<const float> from = row(untouched, r);
        for (std::size_t i = 0; i < moved.size(); ++i) moved[i] = from[i] + by * (moved[i] - from[i]);
      }
      double total = 0;
      for (const auto& sequence : damage_from(probed, stage + 1, on).sums) total += sequence.front().total.value;
      return total;
    };
    scores_.set_curvature(kl_at(0.5f), kl_at(2.0f));
  }

  std::span<layer> layers_;
  driver& forward_;
  const std::vector<scheme>& schemes_;
  const std::vector<any_metric>& metrics_;
  rank_options options_;
  any_stopping_rule stop_;
  scan_book book_;
  std::vector<bool> wanted_;
  local_scores scores_;
  std::vector<std::size_t> contested_;                         // those that the current batch is for, while refining
  std::map<std::size_t, std::vector<contribution>> measured_;  // on the current batch
};

}  // namespace klens::detail
