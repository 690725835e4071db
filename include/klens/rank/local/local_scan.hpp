#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/local/curvature.hpp>
#include <klens/rank/local/local_scores.hpp>
#include <klens/rank/local/prediction.hpp>
#include <klens/rank/local/refinement.hpp>
#include <klens/rank/local/relative_energy.hpp>
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
#include <numeric>
#include <optional>
#include <span>
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
      for (const std::size_t candidate : book_.candidates().of_layer(l))
        scores_.add(book_.candidates().measured_for(candidate), {layers_[l].stage, forward_.stages()}, layers_[l].kind, l,
                    schemes_[book_.candidates().scheme_of(candidate)].kept_as(layers_[l].columns()), is_local(layers_[l]));
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
      scores found = predicted();
      for (; options_.method == scan_method::refine && b < options_.batches; ++b) {
        contested_ = contested(found, draws_, scores_.ties(), stop_, options_.confidence);
        if (contested_.empty()) break;
        place = "batch " + std::to_string(b);
        const bool complete = run_batch(b);
        found = predicted();
        found.complete = complete;
        if (!complete) break;
      }
      return found;
    } catch (const std::exception& caught) {
      throw scan_error{with_lost_weights(place + ": " + caught.what(), layers_), book_.finish(false)};
    }
  }

 private:
  // The untouched model on one batch.
  struct batch {
    stage_entries entries;
    std::map<std::size_t, matrix<float>> exits;  // the residual stream after stages that have candidates, where no entry has it
    batch_reference reference;
  };
  // What is done with a candidate on a batch.
  enum class task { nothing, energy, measure };

  static rank_options without_stop(rank_options options) {
    options.local.batches = std::min(options.batches, options.local.batches);
    options.stop = {};  // what it asks is answered here, not in the books
    return options;
  }
  [[nodiscard]] bool refining() const { return book_.batches_done() >= options_.local.batches; }

  [[nodiscard]] bool is_local(const layer& each) { return each.stage < forward_.stages() && each.last_stage <= each.stage; }

  /// The scores as the draws have them, after all batches until now.
  [[nodiscard]] scores predicted() {
    constexpr std::size_t draws = 256;
    scores found = book_.finish(true);
    const double floor = found.noise.empty() ? 0 : 3 * mean_of(found.noise.front().by_sequence);
    const double looked_at = static_cast<double>(found.positions);
    const double in_all = options_.tokens.empty()
                              ? looked_at * static_cast<double>(options_.batches) / static_cast<double>(book_.batches_done())
                              : static_cast<double>(positions_counted(options_, options_.tokens.size()));
    draws_ = scores_.draw(draws, floor, std::max(in_all, 1.0));
    if (!curvature_.empty()) found.remarks.push_back(curvature_);
    enter_predictions(found, scores_, draws_, floor);
    return found;
  }

  bool run_batch(std::size_t index) {
    batch on;
    driver& forward = forward_;
    on.entries = run_stages(forward, index, wanted_, [&](any_state& at, std::size_t stage) {
      if (!refining() && !wanted_[stage + 1] && stage + 1 < forward_.stages()) on.exits.emplace(stage, forward_.residual(at));
    });
    on.reference = take_reference(forward, on.entries.rbegin()->second, book_.next_batch(), options_, index);
    book_.open_batch(on.reference);
    book_.spend(share_of_forward(forward, 0, on.reference));
    if (options_.noise_floor && index == 0) {
      book_.spend(share_of_forward(forward, 0, on.reference));
      book_.set_noise(damage_of_rounding(forward_, on.reference, metrics_, options_));
    }
    if (!run_candidates(index, on)) return false;
    if (index == 0) check_curvature(on);
    std::vector<std::size_t> measured_in_sequences(on.reference.sequences, 0);
    for (const chunk& each : on.reference.chunks) measured_in_sequences[each.sequence] += each.count;
    scores_.close_batch(measured_in_sequences);
    book_.close_batch();
    return true;
  }

  /// False: the caller wants to stop.
  bool run_candidates(std::size_t index, batch& on) {
    std::vector<task> tasks(scores_.size(), task::nothing);
    if (refining()) {
      for (const std::size_t c : contested_) tasks[book_.candidates().measured_for(c)] = task::measure;
      // How far refining has to go is known only once it is there: a batch at a time.
      book_.expect(count_of(tasks), index + 1);
      return run_tasks(tasks, on);
    }
    if (index == 0) {
      for (const std::size_t c : scores_.measured()) tasks[c] = scores_.is_local(c) ? task::energy : task::measure;
      book_.expect(scores_.measured().size(), options_.local.batches);
      if (!run_tasks(tasks, on)) return false;
      scores_.choose(options_.local.calibrations, options_.local.batches, options_.seed);
      tasks.assign(scores_.size(), task::nothing);
    } else {
      for (const std::size_t c : scores_.measured())
        if (scores_.is_local(c) && scores_.stands_for_layer(c)) tasks[c] = task::energy;
    }
    for (const std::size_t c : scores_.calibrations(index)) tasks[c] = task::measure;
    book_.expect(count_of(tasks) + (index == 0 ? scores_.measured().size() : 0), options_.local.batches);
    return run_tasks(tasks, on);
  }

  [[nodiscard]] static std::size_t count_of(const std::vector<task>& tasks) {
    return tasks.size() - static_cast<std::size_t>(std::count(tasks.begin(), tasks.end(), task::nothing));
  }

  bool run_tasks(const std::vector<task>& tasks, batch& on) {
    for (std::size_t l = 0; l < layers_.size(); ++l)
      if (!run_layer(l, tasks, on)) return false;
    return true;
  }

  bool run_layer(std::size_t l, const std::vector<task>& tasks, batch& on) {
    layer& perturbed = layers_[l];
    std::optional<weight_guard> guard;
    for (const std::size_t candidate : book_.candidates().of_layer(l)) {
      if (tasks[candidate] == task::nothing) continue;
      const scheme& storage = schemes_[book_.candidates().scheme_of(candidate)];
      try {
        if (!guard) guard.emplace(perturbed);
        const weight_error error = guard->apply(storage, {.threads = options_.threads});
        if (guard->changed())
          run_candidate(candidate, tasks[candidate], error, on,
                        turns_of(forward_, perturbed, *guard, storage, options_.threads));
        else
          book_.add(candidate, error, compare_with_itself(forward_, on.reference, metrics_, options_.threads),
                    outcome::weights_unchanged);
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

  void run_candidate(std::size_t candidate, task wanted, const weight_error& error, batch& on, const head_turns& turns) {
    std::size_t stage = layers_[scores_.layer_of(candidate)].stage;
    any_state at = on.entries.at(stage);
    if (scores_.is_local(candidate) && !refining()) {
      run_stage(at, stage, on);
      scores_.add_energies(candidate, relative_energies(forward_.residual(at), exit_of(stage, on), on.reference));
      ++stage;
    }
    if (wanted == task::energy) {
      book_.pass_over(candidate, error);
      return;
    }
    std::vector<double> kls(on.reference.rows.size());
    const batch_damage damage = damage_from(at, stage, on, kls, turns);
    book_.add(candidate, error, damage, damage.changed ? outcome::measured : outcome::output_unchanged);
    scores_.add_kls(candidate, std::move(kls));
  }

  /// The residual stream of the untouched model after a stage that has candidates.
  [[nodiscard]] const_matrix_ref<float> exit_of(std::size_t stage, batch& on) {
    const auto own = on.exits.find(stage);
    if (own != on.exits.end()) return own->second;
    return forward_.residual(on.entries.at(stage + 1));
  }

  /// Runs one stage, and counts it.
  void run_stage(any_state& at, std::size_t stage, const batch& on) {
    driver& forward = forward_;
    forward.advance(at, stage);
    book_.spend(share_of_forward(forward, stage, on.reference) - share_of_forward(forward, stage + 1, on.reference));
  }

  /// Runs all from a stage on, counts it, and compares; `by_position` takes the KL of each measured position.
  [[nodiscard]] batch_damage damage_from(any_state& at, std::size_t stage, const batch& on, std::span<double> by_position,
                                         const head_turns& turns) {
    driver& forward = forward_;
    run_on(forward, at, stage);
    book_.spend(share_of_forward(forward, stage, on.reference));
    return compare_batch(forward, at, on.reference, metrics_, options_.threads, turns, by_position);
  }

  /// Is the damage quadratic in the perturbation? The most damaging calibration is run with half and with twice the energy.
  void check_curvature(batch& on) {
    const auto [probe, whole] = scores_.worst_measured();
    if (!(whole > 0)) return;
    layer& perturbed = layers_[scores_.layer_of(probe)];
    const std::size_t stage = perturbed.stage;
    any_state at = on.entries.at(stage);
    {
      weight_guard guard{perturbed};
      (void)guard.apply(schemes_[book_.candidates().scheme_of(probe)], {.threads = options_.threads});
      run_stage(at, stage, on);
      guard.restore();
    }
    const auto times_at = [&, all = whole](float energy) {  // clang 14 captures no structured binding
      any_state probed = at;
      scale_change(forward_.residual(probed), exit_of(stage, on), energy);
      std::vector<double> kls(on.reference.rows.size());
      (void)damage_from(probed, stage + 1, on, kls, {});
      return std::accumulate(kls.begin(), kls.end(), 0.0) / all;
    };
    const double half = times_at(0.5f), twice = times_at(2.0f);
    curvature_ =
        remark_on_curvature(perturbed.name + " as " + schemes_[book_.candidates().scheme_of(probe)].name(), half, twice);
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
  std::vector<std::vector<double>> draws_;  // of all log KLs, as believed until now
  std::vector<std::size_t> contested_;      // those that the current batch is for, while refining
  std::string curvature_;                   // the remark, where there is one
};

}  // namespace klens::detail
