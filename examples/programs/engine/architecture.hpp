#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "image_network.hpp"
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

/// hidden += after(sum over branches of out_scale * part(in_scale * norm(hidden))).
struct residual_step {
  rms_norm norm;  ///< false: none
  std::vector<branch> branches;
  rms_norm after{};  ///< false: none
};

/// One step with one branch.
template <class Part>
[[nodiscard]] residual_step single(rms_norm norm, Part&& only, rms_norm after = {}) {
  residual_step step{norm, {}, after};
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
  std::vector<residual_step> steps;   ///< mixers and feed-forward networks by turns, as a rule; mixers side by side are one
  const parameter* memory = nullptr;  ///< [rows x width]: stands before every sequence, and has no logits; null: none
  std::vector<std::size_t> kept;      ///< columns of each matrix that stages leave for later ones
  bool keeps_embedding = false;       ///< the first of them is the embedding of the tokens, as the first step sees it
  /// Parameters that a later step reads as well, or whose results it does, with that step counted from 1.
  std::vector<std::pair<const parameter*, std::size_t>> last_uses;
  std::unique_ptr<image_network> images;  ///< of a model of images, which has nothing of the above
};

}  // namespace programs
