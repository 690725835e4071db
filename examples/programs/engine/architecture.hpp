#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "norm.hpp"
#include "parameter.hpp"
#include "part.hpp"

namespace programs {

/// A part with the factors on what goes in and on what comes out.
struct branch {
  std::unique_ptr<part> of;
  float in_scale = 1;
  float out_scale = 1;
};

/// hidden += sum over branches of out_scale * part(in_scale * norm(hidden)).
struct residual_step {
  rms_norm norm;
  std::vector<branch> branches;
};

/// One step with one branch.
template <class Part>
[[nodiscard]] residual_step single(rms_norm norm, Part&& only) {
  residual_step step{norm, {}};
  step.branches.push_back({std::make_unique<std::remove_cvref_t<Part>>(std::forward<Part>(only))});
  return step;
}

/// How a model type arranges its parts; all pointers are to parameters of the checkpoint.
struct architecture {
  parameter* embedding = nullptr;  ///< [vocabulary x width]
  parameter* head = nullptr;       ///< the same shape; the embedding itself where they are tied
  float embedding_scale = 1;
  float head_scale = 1;
  rms_norm final_norm;
  std::vector<residual_step> steps;  ///< mixers and feed-forward networks by turns, as a rule; mixers side by side are one
};

}  // namespace programs
