#pragma once

#include <klens/layer.hpp>
#include <klens/plan/apply.hpp>
#include <klens/site_kind.hpp>
#include <string>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "engine/model.hpp"
#include "token_set.hpp"

namespace programs {

/// One kind of site under one scheme.
using joint_part = std::pair<klens::site_kind, std::string>;

/// Versions of a model in which several kinds of sites are stored otherwise, each written "weights=int4-g64,kv=q8_0" (one without a
/// kind is of weights), and their parts each alone.
class joint_versions {
 public:
  /// Throws klens::argument_error for an unknown kind or scheme, a kind that is there twice or that the model has not, and a scheme
  /// that no site of its kind can be stored under. `context`: positions of a sequence.
  joint_versions(model& of, const std::vector<std::string>& versions, std::size_t context, const site_layout& layout);

  /// Measures all of them, and prints what they lose together beside the sum of what their parts do.
  void print(const token_set& tokens, const run_arguments& arguments);

 private:
  model& model_;
  std::vector<joint_part> single_;              // each part once
  std::vector<std::vector<joint_part>> asked_;  // the parts of each version
  std::vector<klens::layer> layers_;
  std::vector<klens::model_version> all_;  // of the parts, then of those that were asked for
  std::string remarks_;                    // lines
};

}  // namespace programs
