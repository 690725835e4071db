#pragma once

#include <string>
#include <utility>
#include <vector>

#include "checkpoint.hpp"
#include "config.hpp"
#include "linear.hpp"
#include "norm.hpp"
#include "part.hpp"

namespace programs {

/// Sizes of a gated delta net: key heads, each of which serves as many value heads.
struct delta_shape {
  std::size_t width = 0, key_heads = 0, value_heads = 0, key_width = 0, value_width = 0, taps = 0;

  [[nodiscard]] std::size_t keys() const noexcept { return key_heads * key_width; }
  [[nodiscard]] std::size_t values() const noexcept { return value_heads * value_width; }
  [[nodiscard]] std::size_t mixed() const noexcept { return 2 * keys() + values(); }
};

/// The mixer of Qwen3-Next, Qwen3.5 and OLMo Hybrid: projections to queries, keys and values, a causal convolution over all
/// three, the gated delta rule head by head, norm and gate, out_proj.
/// Source     Yang et al., Gated Delta Networks, arXiv:2412.06464, section 3.
struct gated_delta final : part {
  delta_shape shape;
  /// Where each projection's result goes: columns of [q, k, v, gate z, learning rate b, step a].
  std::vector<std::pair<linear, std::size_t>> projections;
  std::vector<const parameter*> conv;  ///< [channels x 1 x taps] each, of q, k and v together, in that order
  const parameter* a_log = nullptr;    ///< [value heads]
  const parameter* step_bias = nullptr;
  rms_norm norm;             ///< of each value head
  linear out_proj;           ///< [width x values]
  float learning_scale = 1;  ///< of the sigmoid of b

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override;
  [[nodiscard]] double flops(std::size_t length) const override;
  /// A memory of each value head, value by value, and the last inputs of the convolution.
  [[nodiscard]] std::vector<kept_vectors> kept() const override;
};

/// linear_num_key_heads and its fellows, with the defaults of Qwen.
[[nodiscard]] delta_shape delta_shape_of(const config& fields, std::size_t width);

/// A_log, dt_bias, norm.weight, out_proj.weight under the names of Qwen; projections and conv are the caller's.
[[nodiscard]] gated_delta take_gated_delta(checkpoint& tensors, const std::string& prefix, const delta_shape& shape,
                                           double epsilon, const std::string& norm = "norm",
                                           const std::string& output = "out_proj");

}  // namespace programs
