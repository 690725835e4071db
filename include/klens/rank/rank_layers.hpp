#pragma once

#include <klens/error.hpp>
#include <klens/forward.hpp>
#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/gather_inputs.hpp>
#include <klens/rank/lists.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/driver_of.hpp>
#include <klens/rank/scan/run_scan.hpp>
#include <klens/rank/scan_error.hpp>
#include <klens/rank/scores.hpp>
#include <span>
#include <type_traits>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Scores every layer under every scheme: what does the model's output lose when this layer alone is stored that way?
///   for each batch: reference pass; for each candidate: swap its weights in, go on from the entry of its stage, compare, put
///   back
/// Forward    forward() -> logits of the whole calibration set, forward(batch) -> of one batch, or the staged form
///            (forward.hpp); logits are [positions x vocabulary], and must be the same, bit for bit, whenever the weights are.
/// Layers     must be disjoint memory; weights are back, bit for bit, after success, exception and stop.
/// Schemes    policies or names: {klens::int4{.group_size = 64}, "int8-channel"}, or one of them without braces. One that cannot
///            store a layer (q4_0 where the width does not divide by 32) is skipped for it and listed in scores::skipped.
/// Metrics    policies; all of them are taken from one read of the row.
/// Memory     one batch: its states at the entries of stages, its reference logits; one layer's weights as float
///            (from_reference), or those of all layers (from_quantized).
/// Failure    a candidate whose weights the scheme cannot hold, or whose logits are NaN or +inf, has the result outcome::failed
///            with its reason; the scan goes on.
/// Throws     argument_error, shape_error for what is wrong from the start; numeric_error for weights that are not finite
///            (names the layer); scan_error, with what had been measured, once the scan is under way (names batch, layer and
///            position).
/// Inputs     schemes that look at a layer's inputs (int4-g64-imp, int4-g64-gptq) find them in layer::inputs. Where they are not
///            there a forward that shows them (input_showing_forward) runs once more, over all batches, and they stay there.
/// Method     options.method: `local` runs the whole model for a few candidates only and predicts the others' kl, for about one
///            forward in all; `refine` goes on to measure what that leaves open under options.stop. Both need a residual_forward.
/// Source     arXiv:2604.13440; batches as the outer loop and going on in the middle are klens' own.
template <class Forward>
[[nodiscard]] scores rank_layers(const layer_list& layers, Forward&& forward, const scheme_list& schemes,
                                 const metric_list& metrics, const rank_options& options = {}) {
  using plain = std::remove_reference_t<Forward>;
  detail::expect_forward<plain>();
  if constexpr (any_forward<plain>) {
    detail::driver_of<plain> driver{forward};
    detail::gather_missing_inputs(layers.all(), driver, schemes.all(), options.batches);
    if (options.method == scan_method::exact)
      return detail::run_scan(layers.all(), driver, schemes.all(), metrics.all(), options);
    if constexpr (residual_forward<plain>)  // and no other program pays for compiling the local methods
      return detail::rank_locally(layers.all(), driver, schemes.all(), metrics.all(), options);
    else
      throw argument_error{
          "the methods local and refine need a forward that shows its residual stream between stages "
          "(klens::residual_forward); use the method exact"};
  }
}

/// The same with options.metrics.
template <class Forward>
[[nodiscard]] scores rank_layers(const layer_list& layers, Forward&& forward, const scheme_list& schemes,
                                 const rank_options& options = {}) {
  return rank_layers(layers, forward, schemes, metric_list{options.metrics}, options);
}

}  // namespace klens
