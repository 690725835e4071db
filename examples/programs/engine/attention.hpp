#pragma once

#include <optional>
#include <string>

#include "linear.hpp"
#include "part.hpp"
#include "rope.hpp"

namespace programs {

/// Causal softmax attention; several query heads may share a key-value head (grouped queries).
struct attention final : part {
  linear q_proj;  ///< [heads * head width x width]
  linear k_proj;  ///< [key-value heads * head width x width]
  linear v_proj;  ///< as k_proj
  linear o_proj;  ///< [width x heads * head width]
  std::size_t heads = 1;
  std::size_t kv_heads = 1;
  float score_scale = 1;         ///< of queries times keys
  float key_scale = 1;           ///< of keys
  std::optional<rope> position;  ///< none: positions are known from the mixers around it only

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale,
              workspace& work) const override;
  [[nodiscard]] double flops(std::size_t length) const override;
};

/// What a config says of attention; the names of the tensors are those that most model types share.
struct attention_shape {
  std::size_t width = 0, heads = 0, kv_heads = 0, head_width = 0;
  bool bias = false;  ///< in all four projections
};
[[nodiscard]] attention take_attention(checkpoint& tensors, const std::string& prefix, const attention_shape& shape);

}  // namespace programs
