#pragma once

#include <cstddef>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/local/local_scan.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/run_scan.hpp>
#include <klens/rank/scores.hpp>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

inline void expect_local_options(std::size_t stages, const std::vector<any_metric>& metrics, const rank_options& options) {
  const auto refuse = [](const std::string& why) { throw argument_error{"the methods local and refine " + why}; };
  if (stages < 2) refuse("need a model of several stages, this one has " + std::to_string(stages) + "; use the method exact");
  if (metrics.size() != 1 || metrics.front().name != "kl") refuse("predict the metric kl alone; ask for no other");
  if (options.from != direction::from_reference) refuse("start from the untouched model; use the method exact");
  if (options.checkpoint || options.resume) refuse("keep no checkpoints; use the method exact");
  if (options.local.batches == 0) refuse("need options.local.batches of at least 1");
  if (options.local.calibrations == 1) refuse("need options.local.calibrations of at least 2, or 0 for klens' own choice");
  if (options.method == scan_method::refine && !options.stop.has_doubts())
    refuse("differ in this: refine needs options.stop to say what is to be settled, with top, split or order");
}

KLENS_SCAN_INLINE scores rank_locally(std::span<layer> layers, driver& forward, const std::vector<scheme>& schemes,
                                      const std::vector<any_metric>& metrics, const rank_options& options) {
  expect_local_options(forward.stages(), metrics, options);
  scores found = local_scan{layers, forward, schemes, metrics, options}.run();
  // Candidates have seen different sequences, if any: comparing them sequence by sequence would mean nothing.
  for (layer_score& each : found.candidates) each.metrics.front().by_sequence.clear();
  return found;
}

}  // namespace klens::detail
