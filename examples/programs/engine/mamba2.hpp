#pragma once

#include <array>
#include <limits>
#include <string>

#include "checkpoint.hpp"
#include "linear.hpp"
#include "norm.hpp"
#include "part.hpp"

namespace programs {

/// The mixer of Mamba-2: in_proj to gate z, x, B, C and step, causal conv over x, B and C, one scan a head, gate and norm,
/// out_proj. Heads come in groups that share B and C; the norm works on each group by itself. Source     Dao and Gu,
/// arXiv:2405.21060, section 7.
struct mamba2 final : part {
  linear in_proj;                              ///< [2 inner + 2 groups * states + heads x width]: z, x, B, C, step
  std::array<float, 5> scales{1, 1, 1, 1, 1};  ///< of in_proj's five parts
  linear out_proj;                             ///< [width x inner]
  const parameter* conv = nullptr;             ///< [inner + 2 groups * states x 1 x taps]
  const parameter* conv_bias = nullptr;        ///< null: none
  const parameter* a_log = nullptr;            ///< [heads]
  const parameter* d = nullptr;                ///< [heads]
  const parameter* step_bias = nullptr;        ///< [heads]
  rms_norm norm;                               ///< [inner]; without weight: none
  bool norm_before_gate = false;
  std::size_t groups = 1;
  std::array<float, 2> step_limits{0, std::numeric_limits<float>::infinity()};

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override;
  [[nodiscard]] double flops(std::size_t length) const override;
  /// A state of each head, channel by channel, and the last inputs of the convolution.
  [[nodiscard]] std::vector<kept_vectors> kept() const override;
};

/// What a config says of a Mamba-2 mixer; the names of the tensors are those that all model types share.
struct mamba2_shape {
  std::size_t width = 0, inner = 0, heads = 0, groups = 0, states = 0, taps = 0;
  bool conv_bias = false, in_bias = false, out_bias = false, norm = true;
  double epsilon = 0;
  std::array<float, 2> step_limits{0, std::numeric_limits<float>::infinity()};
};
[[nodiscard]] mamba2 take_mamba2(checkpoint& tensors, const std::string& prefix, const mamba2_shape& shape);

}  // namespace programs
