#pragma once

#include <atomic>
#include <cstddef>
#include <cstring>
#include <deque>
#include <klens/detail/parallel_for.hpp>
#include <klens/error.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/as_staged.hpp>
#include <klens/rank/scan/candidate_run.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <klens/rank/scan/reference_pass.hpp>
#include <klens/rank/scan/scan_book.hpp>
#include <klens/rank/scores.hpp>
#include <klens/rank/worker.hpp>
#include <klens/weight_guard.hpp>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::detail {

/// One run of rank_layers: batches outside, candidates inside, workers beside one another.
template <class Forward>
class scan {
 public:
  scan(std::span<const worker<Forward>> workers, const std::vector<scheme>& schemes, const std::vector<any_metric>& metrics,
       const rank_options& options)
      : workers_{workers},
        schemes_{schemes},
        metrics_{metrics},
        options_{options},
        book_{first_layers(workers), schemes, metrics, options, as_staged{*workers.front().forward}.stages()},
        wanted_(as_staged{*workers.front().forward}.stages() + 1, false) {
    if (options.noise_floor && !residual_forward<Forward>)
      throw argument_error{"options.noise_floor needs a forward that shows its residual stream (klens::residual_forward)"};
    for (const worker<Forward>& each : workers) expect_same_layers(each);
    for (const layer& each : workers.front().layers) {
      expect_finite_weights(each);
      wanted_[each.stage] = true;
    }
  }

  [[nodiscard]] scores run() {
    std::string place;
    try {
      while (book_.batches_done() < options_.batches && book_.alive() > 0) {
        place = "batch " + std::to_string(book_.batches_done());
        if (!run_batch()) return book_.finish(false);
        book_.close_batch();
      }
    } catch (const std::exception& caught) {
      throw scan_error{place + ": " + caught.what(), book_.finish(false)};
    }
    return book_.finish(true);
  }

 private:
  using staged = as_staged<Forward>;
  using state = decltype(std::declval<staged&>().begin(0));
  using entries = stage_entries<state>;

  static std::span<const layer> first_layers(std::span<const worker<Forward>> workers) {
    if (workers.empty()) throw argument_error{"rank_layers: there is no worker"};
    return workers.front().layers;
  }

  void expect_same_layers(const worker<Forward>& other) const {
    const auto same = [](const layer& a, const layer& b) {
      return a.name == b.name && a.rows() == b.rows() && a.columns() == b.columns() && a.stage == b.stage;
    };
    if (!std::ranges::equal(workers_.front().layers, other.layers, same))
      throw argument_error{"rank_layers: the workers' layers differ in name, shape, stage or order"};
  }

  /// False: the caller wants to stop.
  bool run_batch() {
    std::vector<std::optional<entries>> entered(workers_.size());
    parallel_for(workers_.size(), workers_.size(), [&](std::size_t w) {
      staged forward{*workers_[w].forward};
      entered[w] = run_stages(forward, book_.batches_done(), wanted_);
    });
    staged first{*workers_.front().forward};
    batch_reference reference = take_reference(first, entered.front()->rbegin()->second, book_.sequences_seen(), options_);
    expect_same_logits(entered, reference);
    book_.open_batch(reference);
    book_.spend(static_cast<double>(workers_.size()) * share_of_forward(first, 0, reference));

    if constexpr (residual_forward<Forward>)
      if (options_.noise_floor && book_.batches_done() == 0) {
        book_.spend(share_of_forward(first, 0, reference));
        book_.set_noise(damage_of_rounding(*workers_.front().forward, reference, metrics_, options_.seed, options_.threads));
      }

    if (options_.from == direction::from_quantized)
      return share_out(schemes_.size(), [&](std::size_t w, std::size_t s) { return measure_restored(w, s, reference); });
    return share_out(workers_.front().layers.size(),
                     [&](std::size_t w, std::size_t l) { return measure_layer(w, l, *entered[w], reference); });
  }

  /// Lets every worker take the next task until none is left or one says false; then the answer is false.
  template <class Task>
  bool share_out(std::size_t tasks, const Task& task) {
    std::atomic<std::size_t> next{0};
    std::atomic<bool> stopped{false};
    parallel_for(workers_.size(), workers_.size(), [&](std::size_t w) {
      for (std::size_t t = next++; t < tasks && !stopped; t = next++) {
        try {
          if (!task(w, t)) stopped = true;
        } catch (...) {
          stopped = true;
          throw;
        }
      }
    });
    return !stopped;
  }

  void expect_same_logits(std::vector<std::optional<entries>>& entered, const batch_reference& reference) {
    for (std::size_t w = 1; w < workers_.size(); ++w) {
      staged forward{*workers_[w].forward};
      const batch_reference other = take_reference(forward, entered[w]->rbegin()->second, book_.sequences_seen(), options_);
      const auto bytes = static_cast<std::size_t>(reference.logits.size()) * sizeof(float);
      if (other.logits.size() != reference.logits.size() ||
          std::memcmp(other.logits.data(), reference.logits.data(), bytes) != 0)
        throw argument_error{"worker " + std::to_string(w) +
                             " gives other logits than worker 0; all workers must run the same model"};
    }
  }

  /// Measures all candidates of a layer that are still in the scan. False: the caller wants to stop.
  bool measure_layer(std::size_t w, std::size_t l, const entries& entered, const batch_reference& reference) {
    layer& perturbed = workers_[w].layers[l];
    std::optional<weight_guard> guard;
    for (const std::size_t candidate : book_.candidates_of(l)) {
      if (!book_.alive(candidate)) continue;
      const scheme& storage = schemes_[book_.scheme_of(candidate)];
      try {
        if (!guard) guard.emplace(perturbed);
        const weight_error error = guard->perturb(storage, {.threads = options_.threads});
        const bool changed = guard->changed();
        staged forward{*workers_[w].forward};
        const batch_damage damage =
            changed ? compare_batch(forward, resume(forward, entered, perturbed.stage), reference, metrics_, options_.threads)
                    : compare_with_itself(reference, metrics_, options_.threads);
        const outcome result = !changed         ? outcome::weights_unchanged
                               : damage.changed ? outcome::measured
                                                : outcome::output_unchanged;
        if (!enter(candidate, error, damage, result, changed ? share_of_forward(forward, perturbed.stage, reference) : 0)) {
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
  bool measure_restored(std::size_t w, std::size_t s, const batch_reference& reference) {
    struct quantized_layer {
      quantized_layer(layer& of, std::size_t index) : quantized{of}, candidate{index}, guard{of} {}
      layer& quantized;
      std::size_t candidate;
      weight_guard guard;
      weight_error error{};
    };
    std::deque<quantized_layer> all;  // whatever happens, each is restored when this goes
    for (std::size_t l = 0; l < workers_[w].layers.size(); ++l)
      for (const std::size_t candidate : book_.candidates_of(l))
        if (book_.scheme_of(candidate) == s) all.emplace_back(workers_[w].layers[l], candidate);
    for (quantized_layer& each : all) {
      try {
        each.error = each.guard.perturb(schemes_[s], {.threads = options_.threads});
      } catch (const std::exception& caught) {
        throw error_at(each.quantized, schemes_[s], caught);
      }
    }
    staged forward{*workers_[w].forward};
    const entries entered = run_stages(forward, book_.batches_done(), wanted_);
    const batch_damage whole = compare_batch(forward, entered.rbegin()->second, reference, metrics_, options_.threads);
    {
      const std::lock_guard lock{guard_book_};
      book_.add_quantized(schemes_[s].name(), whole);
      book_.spend(share_of_forward(forward, 0, reference));
    }
    for (quantized_layer& each : all) {
      if (!book_.alive(each.candidate)) continue;
      try {
        const bool changed = each.guard.changed();
        each.guard.restore();
        batch_damage saved =
            compare_batch(forward, resume(forward, entered, each.quantized.stage), reference, metrics_, options_.threads);
        if (changed) (void)each.guard.perturb(schemes_[s], {.threads = options_.threads});
        const outcome result = !changed                          ? outcome::weights_unchanged
                               : turn_into_savings(saved, whole) ? outcome::measured
                                                                 : outcome::output_unchanged;
        if (!enter(each.candidate, each.error, saved, result, share_of_forward(forward, each.quantized.stage, reference)))
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
    const std::lock_guard lock{guard_book_};
    book_.spend(forwards);
    book_.add(candidate, error, damage, result);
    return book_.report(candidate);
  }

  std::span<const worker<Forward>> workers_;
  const std::vector<scheme>& schemes_;
  const std::vector<any_metric>& metrics_;
  const rank_options& options_;
  scan_book book_;
  std::vector<bool> wanted_;
  std::mutex guard_book_;
};

}  // namespace klens::detail
