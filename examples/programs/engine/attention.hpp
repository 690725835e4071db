#pragma once

#include <optional>
#include <string>

#include "linear.hpp"
#include "norm.hpp"
#include "part.hpp"
#include "rope.hpp"

namespace programs {

/// Which keys a query sees: those up to its own position; with a window the last so many of them, itself included, and the
/// first `always` ones.
struct attention_mask {
  std::size_t window = 0;  ///< 0: all
  std::size_t always = 0;
};

/// out = softmax(scale * q k^T) v under a mask, head by head; several query heads may share a key-value head (grouped queries).
/// The last query is at the position of the last key: there may be more keys than queries, and they are earlier ones.
/// Shapes     q [length x heads * head width], k [keys x kv_heads * head width], v [keys x kv_heads * value width],
///            out [length x heads * value width].
void attend(const klens::const_matrix_ref<float>& q, const klens::const_matrix_ref<float>& k,
            const klens::const_matrix_ref<float>& v, std::size_t heads, std::size_t kv_heads, float scale,
            const attention_mask& mask, klens::matrix_ref<float> out, workspace& work);

/// attend with the keys and values that `part` has kept until now, these last. They are stored as the pass says before a query
/// reads them; where a scale is for a channel of several positions, those of a group that is not full yet are still floats, so
/// that no position knows of a later one.
void attend_to_kept(const klens::const_matrix_ref<float>& q, panel& k, panel& v, std::size_t heads, std::size_t kv_heads,
                    float scale, const attention_mask& mask, klens::matrix_ref<float> out, const pass& at, const void* part);

/// Floating-point operations of attend's two products.
[[nodiscard]] double attend_flops(std::size_t length, std::size_t key_columns, std::size_t value_columns,
                                  const attention_mask& mask);

/// Adds the keys and values that an attention keeps of each position, head by head.
void add_keys_and_values(std::vector<kept_vectors>& all, const void* part, const std::string& prefix, std::size_t kv_heads,
                         std::size_t key_columns, std::size_t value_columns, const attention_mask& mask);

/// Causal softmax attention.
struct attention final : part {
  linear q_proj;  ///< [heads * head width x width]; gated: [heads * 2 head width x width], query and gate head by head
  linear k_proj;  ///< [key-value heads * head width x width]
  linear v_proj;  ///< as k_proj
  linear o_proj;  ///< [width x heads * head width]
  std::size_t heads = 1;
  std::size_t kv_heads = 1;
  float score_scale = 1;         ///< of queries times keys
  float key_scale = 1;           ///< of keys
  rms_norm q_norm, k_norm;       ///< before the rotation; of each head where the weight is as wide as one, else of the row
  std::optional<rope> position;  ///< none: positions are known from the mixers around it only
  attention_mask mask;
  bool gated = false;  ///< the result is multiplied with the gate's sigmoid

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override;
  [[nodiscard]] double flops(std::size_t length) const override;
  [[nodiscard]] std::vector<kept_vectors> kept() const override;
};

/// What a config says of attention; the names of the tensors are those that most model types share.
struct attention_shape {
  std::size_t width = 0;
  std::size_t output_width = 0;  ///< 0: width
  std::size_t heads = 0, kv_heads = 0, head_width = 0;
  bool bias = false;  ///< in the projections to queries, keys and values
  bool output_bias = false;
  bool gated = false;
};
[[nodiscard]] attention take_attention(checkpoint& tensors, const std::string& prefix, const attention_shape& shape,
                                       const std::string& output = "o_proj");

}  // namespace programs
