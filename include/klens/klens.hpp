#pragma once
// klens on one page: which weight matrices of a language model are fragile under quantization?
//
//   std::vector<klens::layer> layers{{"up", up}, {"down", down}};               // views of your weights, [out x in] each
//   auto forward = [&]() -> klens::matrix<float> { return run_my_model(); };     // logits, [positions x vocabulary]
//   auto scores = klens::rank_layers(layers, forward, {klens::int4{.group_size = 64}, "int8-channel"}, {klens::kl{}});
//   for (const auto* each : scores.ranked("kl")) std::printf("%s %g\n", each->layer.c_str(), each->metrics[0].mean);
//
// Beside weights, what a model keeps while it runs can be ranked: keys and values, states, inputs of products (site.hpp).
// What can be plugged in: a metric (metric/metric.hpp), a quantizer (quant/quantizer.hpp), a forward (forward.hpp) and a
// stopping rule (rank/look.hpp). Plans, statistics and files have contents of their own: plan.hpp, stats.hpp, io.hpp.

#include <klens/error.hpp>
#include <klens/forward.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/measure.hpp>
#include <klens/metric/metric.hpp>
#include <klens/metric/metrics.hpp>
#include <klens/metric/rows.hpp>
#include <klens/metric/totals.hpp>
#include <klens/quant/float16.hpp>
#include <klens/quant/float8.hpp>
#include <klens/quant/gguf.hpp>
#include <klens/quant/gguf_affine.hpp>
#include <klens/quant/gguf_k.hpp>
#include <klens/quant/informed.hpp>
#include <klens/quant/informed_integer.hpp>
#include <klens/quant/integer.hpp>
#include <klens/quant/layer_inputs.hpp>
#include <klens/quant/mxfp4.hpp>
#include <klens/quant/nf4.hpp>
#include <klens/quant/nvfp4.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/round_trip.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <klens/rank/any_stopping_rule.hpp>
#include <klens/rank/gather_inputs.hpp>
#include <klens/rank/lists.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/merge.hpp>
#include <klens/rank/position_bands.hpp>
#include <klens/rank/rank_layers.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/ranking.hpp>
#include <klens/rank/scan_error.hpp>
#include <klens/rank/scores.hpp>
#include <klens/rank/stopping.hpp>
#include <klens/site.hpp>
#include <klens/site_kind.hpp>
#include <klens/version.hpp>
#include <klens/weight_guard.hpp>
