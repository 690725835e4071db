#pragma once

#include <cstddef>
#include <deque>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/as_staged.hpp>
#include <klens/rank/scan/candidate_run.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <klens/rank/scan/reference_pass.hpp>
#include <klens/rank/scan/scan_book.hpp>
#include <klens/rank/scan_error.hpp>
#include <klens/rank/scores.hpp>
#include <klens/weight_guard.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::detail {

/// One run of rank_layers: batches outside, candidates inside.
template <class Forward>
class scan {
 public:
  scan(std::span<layer> layers, Forward& forward, const std::vector<scheme>& schemes, const std::vector<any_metric>& metrics,
       const rank_options& options)
      : layers_{layers},
        forward_{forward},
        schemes_{schemes},
        metrics_{metrics},
        options_{options},
        book_{layers, schemes, metrics, options, forward_.stages()},
        wanted_(forward_.stages() + 1, false) {
    if (options.noise_floor && !residual_forward<Forward>)
      throw argument_error{"options.noise_floor needs a forward that shows its residual stream (klens::residual_forward)"};
    for (const layer& each : layers) {
      expect_finite_weights(each);
      wanted_[each.stage] = true;
    }
  }

  [[nodiscard]] scores run() {
    std::string place;
    try {
      while (book_.batches_done() < options_.batches && book_.alive() > 0) {
        place = "batch " + std::to_string(book_.batches_done());
        const bool goes_on = run_batch();
        expect_weights_back(layers_);
        if (!goes_on) return book_.finish(false);
        book_.close_batch();
      }
    } catch (const std::exception& caught) {
      throw scan_error{with_lost_weights(place + ": " + caught.what(), layers_), book_.finish(false)};
    }
    return book_.finish(true);
  }

 private:
  using staged = as_staged<Forward>;
  using state = decltype(std::declval<staged&>().begin(0));
  using entries = stage_entries<state>;

  /// False: the caller wants to stop.
  bool run_batch() {
    const entries entered = run_stages(forward_, book_.batches_done(), wanted_);
    batch_reference reference = take_reference(forward_, entered.rbegin()->second, book_.sequences_seen(), options_);
    book_.open_batch(reference);
    book_.spend(share_of_forward(forward_, 0, reference));

    if constexpr (residual_forward<Forward>)
      if (options_.noise_floor && book_.batches_done() == 0) {
        book_.spend(share_of_forward(forward_, 0, reference));
        book_.set_noise(damage_of_rounding(forward_.user(), reference, metrics_, options_.seed, options_.threads));
      }

    if (options_.from == direction::from_quantized) {
      for (std::size_t s = 0; s < schemes_.size(); ++s)
        if (!measure_restored(s, reference)) return false;
    } else {
      for (std::size_t l = 0; l < layers_.size(); ++l)
        if (!measure_layer(l, entered, reference)) return false;
    }
    return true;
  }

  /// Measures all candidates of a layer that are still in the scan. False: the caller wants to stop.
  bool measure_layer(std::size_t l, const entries& entered, const batch_reference& reference) {
    layer& perturbed = layers_[l];
    std::optional<weight_guard> guard;
    for (const std::size_t candidate : book_.candidates_of(l)) {
      if (!book_.alive(candidate)) continue;
      const scheme& storage = schemes_[book_.scheme_of(candidate)];
      try {
        if (!guard) guard.emplace(perturbed);
        const weight_error error = guard->apply(storage, {.threads = options_.threads});
        const bool changed = guard->changed();
        const batch_damage damage =
            changed ? compare_batch(forward_, resume(forward_, entered, perturbed.stage), reference, metrics_, options_.threads)
                    : compare_with_itself(reference, metrics_, options_.threads);
        const outcome result = !changed         ? outcome::weights_unchanged
                               : damage.changed ? outcome::measured
                                                : outcome::output_unchanged;
        if (!enter(candidate, error, damage, result, changed ? share_of_forward(forward_, perturbed.stage, reference) : 0)) {
          guard->restore();
          return false;
        }
      } catch (const std::exception& caught) {
        throw error_at(perturbed, storage, caught);
      }
    }
    if (guard) guard->restore();
    return true;
  }

  /// Quantizes every layer under one scheme, then measures how much of the damage goes away when one of them is restored.
  bool measure_restored(std::size_t s, const batch_reference& reference) {
    struct quantized_layer {
      quantized_layer(layer& of, std::size_t index) : quantized{of}, candidate{index}, guard{of} {}
      layer& quantized;
      std::size_t candidate;
      weight_guard guard;
      weight_error error{};
    };
    std::deque<quantized_layer> all;  // whatever happens, each is restored when this goes
    for (std::size_t l = 0; l < layers_.size(); ++l)
      for (const std::size_t candidate : book_.candidates_of(l))
        if (book_.scheme_of(candidate) == s) all.emplace_back(layers_[l], candidate);
    for (quantized_layer& each : all) {
      try {
        each.error = each.guard.apply(schemes_[s], {.threads = options_.threads});
      } catch (const std::exception& caught) {
        throw error_at(each.quantized, schemes_[s], caught);
      }
    }
    const entries entered = run_stages(forward_, book_.batches_done(), wanted_);
    const batch_damage whole = compare_batch(forward_, entered.rbegin()->second, reference, metrics_, options_.threads);
    book_.add_quantized(schemes_[s].name(), whole);
    book_.spend(share_of_forward(forward_, 0, reference));
    for (quantized_layer& each : all) {
      if (!book_.alive(each.candidate)) continue;
      try {
        const bool changed = each.guard.changed();
        each.guard.restore();
        batch_damage saved =
            compare_batch(forward_, resume(forward_, entered, each.quantized.stage), reference, metrics_, options_.threads);
        if (changed) (void)each.guard.apply(schemes_[s], {.threads = options_.threads});
        const outcome result = !changed                          ? outcome::weights_unchanged
                               : turn_into_savings(saved, whole) ? outcome::measured
                                                                 : outcome::output_unchanged;
        if (!enter(each.candidate, each.error, saved, result, share_of_forward(forward_, each.quantized.stage, reference)))
          return false;
      } catch (const std::exception& caught) {
        throw error_at(each.quantized, schemes_[s], caught);
      }
    }
    return true;
  }

  /// Enters a candidate's damage in the books. False: the caller wants to stop.
  [[nodiscard]] bool enter(std::size_t candidate, const weight_error& error, const batch_damage& damage, outcome result,
                           double forwards) {
    book_.spend(forwards);
    book_.add(candidate, error, damage, result);
    return book_.report(candidate);
  }

  std::span<layer> layers_;
  staged forward_;
  const std::vector<scheme>& schemes_;
  const std::vector<any_metric>& metrics_;
  const rank_options& options_;
  scan_book book_;
  std::vector<bool> wanted_;
};

}  // namespace klens::detail
