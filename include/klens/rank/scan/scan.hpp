#pragma once

#include <cstddef>
#include <exception>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/candidate_run.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <klens/rank/scan/driver.hpp>
#include <klens/rank/scan/reference_pass.hpp>
#include <klens/rank/scan/run_scan.hpp>
#include <klens/rank/scan/scan_book.hpp>
#include <klens/rank/scan_error.hpp>
#include <klens/rank/scores.hpp>
#include <klens/weight_guard.hpp>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// One run of rank_layers: batches outside, candidates inside.
class scan {
 public:
  scan(std::span<layer> layers, driver& forward, const std::vector<scheme>& schemes, const std::vector<any_metric>& metrics,
       const rank_options& options)
      : layers_{layers},
        forward_{forward},
        schemes_{schemes},
        metrics_{metrics},
        options_{options},
        book_{layers, schemes, metrics, options, forward.stages()},
        wanted_(forward.stages() + 1, false) {
    for (const layer& each : layers) {
      expect_finite_weights(each);
      wanted_[each.stage] = true;
    }
  }

  [[nodiscard]] scores run() {
    try {
      while (book_.batches_done() < options_.batches && book_.alive() > 0) {
        const bool goes_on = run_batch();
        expect_weights_back(layers_);
        if (!goes_on) return book_.finish(false);
        book_.close_batch();
      }
    } catch (const std::exception& caught) {
      throw scan_error{with_lost_weights(place() + ": " + problem_text(caught), layers_), book_.finish(false)};
    }
    return book_.finish(true);
  }

 private:
  [[nodiscard]] std::string place() const { return joined({"batch ", book_.batches_done()}); }

  /// False: the caller wants to stop.
  bool run_batch() {
    const stage_entries entered = run_stages(forward_, book_.batches_done(), wanted_);
    const batch_reference reference =
        take_reference(forward_, entered.rbegin()->second, book_.next_batch(), options_, book_.batches_done());
    book_.open_batch(reference);
    book_.spend(share_of_forward(forward_, 0, reference));
    if (book_.batches_done() == 0) measure_noise(entered, reference);

    if (options_.from == direction::from_quantized) {
      for (std::size_t s = 0; s < schemes_.size(); ++s)
        if (!measure_restored(s, reference)) return false;
    } else {
      for (std::size_t l = 0; l < layers_.size(); ++l)
        if (!measure_layer(l, entered, reference)) return false;
    }
    return true;
  }

  /// What the untouched model differs by from the reference: run again, and with its embeddings changed in their last bits;
  /// from a reference that is not its own, as it is.
  void measure_noise(const stage_entries& entered, const batch_reference& reference) {
    if (options_.reference) {
      book_.set_noise(compare_batch(forward_, entered.rbegin()->second, reference, metrics_, options_.threads));
      return;
    }
    const bool by_rounding = options_.noise_floor && forward_.has_residual();
    if (options_.repeat_reference || (options_.noise_floor && !by_rounding)) {
      book_.spend(share_of_forward(forward_, 0, reference));
      book_.add_repetition(damage_of_repeating(forward_, reference, metrics_, options_));
    }
    if (by_rounding) {
      book_.spend(share_of_forward(forward_, 0, reference));
      book_.set_noise(damage_of_rounding(forward_, reference, metrics_, options_));
    }
  }

  /// Measures all candidates of a layer that are still in the scan. False: the caller wants to stop.
  bool measure_layer(std::size_t l, const stage_entries& entered, const batch_reference& reference) {
    layer& perturbed = layers_[l];
    std::optional<weight_guard> guard;
    for (const std::size_t candidate : book_.candidates().of_layer(l)) {
      if (!book_.alive(candidate)) continue;
      const scheme& storage = schemes_[book_.candidates().scheme_of(candidate)];
      try {
        if (!guard) guard.emplace(perturbed);
        measure(candidate, storage, perturbed, *guard, entered, reference);
        if (!book_.report(candidate)) {
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

  /// Measures one candidate, whose layer `guard` guards.
  void measure(std::size_t candidate, const scheme& storage, const layer& perturbed, weight_guard& guard,
               const stage_entries& entered, const batch_reference& reference) {
    try {
      const weight_error error = guard.apply(storage, {.threads = options_.threads});
      if (!guard.changed()) {
        book_.add(candidate, error,
                  options_.reference ? compare_batch(forward_, entered.rbegin()->second, reference, metrics_, options_.threads)
                                     : compare_with_itself(forward_, reference, metrics_, options_.threads),
                  outcome::weights_unchanged);
        return;
      }
      const any_state after = resume(forward_, entered, perturbed.stage);
      book_.spend(share_of_forward(forward_, perturbed.stage, reference));
      const batch_damage damage = compare_batch(forward_, after, reference, metrics_, options_.threads,
                                                turns_of(forward_, perturbed, guard, storage, options_.threads));
      book_.add(candidate, error, damage, damage.changed ? outcome::measured : outcome::output_unchanged);
    } catch (const numeric_error& caught) {  // of this candidate alone: the untouched model had finite logits
      book_.fail(candidate, place() + ": " + caught.what());
    }
  }

  struct quantized_layer {
    quantized_layer(layer& of, std::size_t index) : quantized{of}, candidate{index}, guard{of} {}
    layer& quantized;
    std::size_t candidate;
    weight_guard guard;
    weight_error error{};
  };

  /// Quantizes every layer under one scheme, then measures how much of the damage goes away when one of them is restored.
  bool measure_restored(std::size_t s, const batch_reference& reference) {
    std::list<quantized_layer> all;  // whatever happens, each is restored when this goes
    for (std::size_t l = 0; l < layers_.size(); ++l)
      for (const std::size_t candidate : book_.candidates().of_layer(l))
        if (book_.candidates().scheme_of(candidate) == s && !quantize(all.emplace_back(layers_[l], candidate), schemes_[s]))
          all.pop_back();
    std::optional<batch_damage> whole;
    const stage_entries entered = run_stages(forward_, book_.batches_done(), wanted_);
    book_.spend(share_of_forward(forward_, 0, reference));
    try {
      whole = compare_batch(forward_, entered.rbegin()->second, reference, metrics_, options_.threads);
      book_.add_quantized(schemes_[s].name(), *whole);
    } catch (const numeric_error& caught) {
      for (quantized_layer& each : all)
        if (book_.alive(each.candidate))
          book_.fail(each.candidate, place() + ": with every layer as " + schemes_[s].name() + ", " + caught.what());
      return true;
    }
    for (quantized_layer& each : all) {
      if (!book_.alive(each.candidate)) continue;
      try {
        measure_one_restored(each, schemes_[s], entered, reference, *whole);
        if (!book_.report(each.candidate)) return false;
      } catch (const std::exception& caught) {
        throw error_at(each.quantized, schemes_[s], caught);
      }
    }
    return true;
  }

  /// Quantizes a layer. False where the scheme cannot hold its weights: the layer is as it was, and its candidate has failed.
  bool quantize(quantized_layer& each, const scheme& storage) {
    try {
      each.error = each.guard.apply(storage, {.threads = options_.threads});
      return true;
    } catch (const numeric_error& caught) {
      each.guard.restore();
      if (book_.alive(each.candidate)) book_.fail(each.candidate, place() + ": " + caught.what());
      return false;
    } catch (const std::exception& caught) {
      throw error_at(each.quantized, storage, caught);
    }
  }

  void measure_one_restored(quantized_layer& each, const scheme& storage, const stage_entries& entered,
                            const batch_reference& reference, const batch_damage& whole) {
    const std::size_t stage = each.quantized.stage;
    const bool changed = each.guard.changed();
    each.guard.restore();
    std::optional<batch_damage> saved;
    try {
      const any_state after = resume(forward_, entered, stage);
      book_.spend(share_of_forward(forward_, stage, reference));
      saved = compare_batch(forward_, after, reference, metrics_, options_.threads);
    } catch (const numeric_error& caught) {
      book_.fail(each.candidate, place() + ": " + caught.what());
    }
    if (changed) (void)each.guard.apply(storage, {.threads = options_.threads});
    if (!saved) return;
    const outcome result = !changed                           ? outcome::weights_unchanged
                           : turn_into_savings(*saved, whole) ? outcome::measured
                                                              : outcome::output_unchanged;
    book_.add(each.candidate, each.error, *saved, result);
  }

  std::span<layer> layers_;
  driver& forward_;
  const std::vector<scheme>& schemes_;
  const std::vector<any_metric>& metrics_;
  const rank_options& options_;
  scan_book book_;
  std::vector<bool> wanted_;
};

KLENS_SCAN_INLINE scores run_scan(std::span<layer> layers, driver& forward, const std::vector<scheme>& schemes,
                                  const std::vector<any_metric>& metrics, const rank_options& options) {
  return scan{layers, forward, schemes, metrics, options}.run();
}

}  // namespace klens::detail
