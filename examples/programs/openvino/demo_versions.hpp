#pragma once

#include <klens/plan/plan.hpp>
#include <klens/rank/scores.hpp>
#include <string>
#include <vector>

namespace openvino_adapter {

/// A version of a model that a demonstration makes.
struct demo_version {
  std::string name;    ///< of its files, too
  std::string family;  ///< those of a family have the same mark in a picture
  klens::plan plan;
};

/// The weights as they are; ten cuts, of which p01 gives every layer its largest scored scheme, p10 its smallest one, and those between them the
/// smallest one to a share of the weights that grows by a ninth each, layers of low KL first; and the plans of least KL under
/// each budget. Layers that kernels fuse share a scheme; schemes that OpenVINO cannot store for a layer are left out.
/// A layer whose damage the scores do not know has its largest scheme in all of them, unless a pattern of `assume_harmless` is
/// found in its name.
///   untouched  the scheme that holds the weights: fp16, or f32
/// Throws klens::argument_error for a layer that no scored scheme can store, and for a budget that nothing fits.
[[nodiscard]] std::vector<demo_version> demo_versions(const klens::scores& scores, const std::vector<std::string>& budgets,
                                                      const std::vector<std::string>& assume_harmless = {},
                                                      const std::string& untouched = "fp16");

}  // namespace openvino_adapter
