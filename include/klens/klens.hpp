#pragma once
// klens on one page: which weight matrices of a language model are fragile under quantization?
//
//   std::vector<klens::layer> layers{{"up", up}, {"down", down}};               // views of your weights, [out x in] each
//   auto forward = [&]() -> klens::matrix<float> { return run_my_model(); };     // logits, [positions x vocabulary]
//   auto scores = klens::rank_layers(layers, forward, {klens::int4{.group_size = 64}, "int8-channel"}, {klens::kl{}});
//   for (const auto* each : scores.ranked("kl")) std::printf("%s %g\n", each->layer.c_str(), each->metrics[0].mean);
//
// What can be plugged in is in concepts.hpp. io/ needs nlohmann-json and is not included here.

#include <klens/concepts.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/delta_ce.hpp>
#include <klens/metric/js.hpp>
#include <klens/metric/kl.hpp>
#include <klens/metric/measure.hpp>
#include <klens/metric/mse.hpp>
#include <klens/metric/position.hpp>
#include <klens/metric/reverse_kl.hpp>
#include <klens/metric/row_damage.hpp>
#include <klens/metric/sqnr.hpp>
#include <klens/metric/top1.hpp>
#include <klens/metric/totals.hpp>
#include <klens/plan/budget.hpp>
#include <klens/plan/constraints.hpp>
#include <klens/plan/exact.hpp>
#include <klens/plan/greedy.hpp>
#include <klens/plan/local_search.hpp>
#include <klens/plan/plan.hpp>
#include <klens/plan/pools.hpp>
#include <klens/plan/share.hpp>
#include <klens/plan/threshold.hpp>
#include <klens/plan/tolerance.hpp>
#include <klens/plan/unit.hpp>
#include <klens/quant/gguf.hpp>
#include <klens/quant/grid.hpp>
#include <klens/quant/half.hpp>
#include <klens/quant/integer.hpp>
#include <klens/quant/round_trip.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/quant/weight_error.hpp>
#include <klens/rank/agreement.hpp>
#include <klens/rank/any_metric.hpp>
#include <klens/rank/bootstrap.hpp>
#include <klens/rank/interval.hpp>
#include <klens/rank/kendall.hpp>
#include <klens/rank/layer.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/merge.hpp>
#include <klens/rank/rank_layers.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/rank_range.hpp>
#include <klens/rank/ranking.hpp>
#include <klens/rank/scores.hpp>
#include <klens/rank/spearman.hpp>
#include <klens/rank/stopping.hpp>
#include <klens/rank/top_overlap.hpp>
#include <klens/rank/worker.hpp>
