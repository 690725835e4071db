#pragma once
// What every way of scoring does with one candidate, on one batch.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <klens/detail/float_bits.hpp>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <klens/rank/scan/driver.hpp>
#include <klens/rank/scan/reference_pass.hpp>
#include <klens/rank/scan/rounding_noise.hpp>
#include <klens/weight_guard.hpp>
#include <new>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Runs all stages from `stage` on.
inline void run_on(driver& forward, any_state& at, std::size_t stage) {
  for (; stage < forward.stages(); ++stage) forward.advance(at, stage);
}

/// The state after all stages, of a model that differs from the untouched one from that stage on only.
[[nodiscard]] inline any_state resume(driver& forward, const stage_entries& entries, std::size_t stage) {
  any_state at = entries.at(stage);
  run_on(forward, at, stage);
  return at;
}

/// What part of a whole forward over the batch runs from the entry of a stage, with the head at the measured positions only.
[[nodiscard]] inline double share_of_forward(const driver& forward, std::size_t stage, const batch_reference& reference) {
  const double measured =
      static_cast<double>(reference.rows.size()) / static_cast<double>(reference.sequences * reference.length);
  const double head = forward.has_rows() ? forward.share_from(forward.stages()) * (1 - measured) : 0;
  return forward.share_from(stage) - head;
}

/// What making reference logits again needs while a layer is changed. Nothing, unless the head uses it.
[[nodiscard]] inline head_turns turns_of(const driver& forward, const layer& changed, weight_guard& guard,
                                         const scheme& storage, std::size_t threads) {
  if (std::max(changed.stage, changed.last_stage) < forward.stages()) return {};
  return {[&guard] { guard.restore(); }, [&guard, &storage, threads] { (void)guard.apply(storage, {.threads = threads}); }};
}

/// What rounding alone does: the untouched model once more on the first batch, its embeddings changed in their last bits.
[[nodiscard]] inline batch_damage damage_of_rounding(driver& forward, const batch_reference& reference,
                                                     std::span<const any_metric> metrics, const rank_options& options) {
  any_state at = forward.begin(0);
  forward.advance(at, 0);
  change_last_bits(forward.residual(at), options.seed);
  run_on(forward, at, 1);
  return compare_batch(forward, at, reference, metrics, options.threads);
}

/// What running again does: the untouched model once more on the first batch. Unchanged where the forward gives the same bits.
[[nodiscard]] inline batch_damage damage_of_repeating(driver& forward, const batch_reference& reference,
                                                      std::span<const any_metric> metrics, const rank_options& options) {
  any_state at = forward.begin(0);
  run_on(forward, at, 0);
  return compare_batch(forward, at, reference, metrics, options.threads);
}

/// What went wrong, with advice where the exception itself has none.
[[nodiscard]] inline std::string problem_text(const std::exception& caught) {
  if (dynamic_cast<const std::bad_alloc*>(&caught) != nullptr)
    return "out of memory; let the forward take fewer sequences in a batch (a scan keeps one batch: its logits, its states "
           "between stages), or measure at fewer positions";
  return caught.what();
}

/// An error that says which candidate it befell.
[[nodiscard]] inline error error_at(const layer& perturbed, const scheme& storage, const std::exception& caught) {
  return error{joined({perturbed.name, " as ", storage.name(), ": ", problem_text(caught)})};
}

}  // namespace klens::detail
