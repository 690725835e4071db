#pragma once
// Models of real shapes with random weights, for sizes and speeds; what they say means nothing.

#include <cstddef>
#include <memory>
#include <openvino/openvino.hpp>
#include <string>

namespace openvino_adapter {

struct llama_shape {
  std::size_t vocabulary = 32000, width = 768, blocks = 12, heads = 12, inner = 2048;
};
struct mamba2_shape {
  std::size_t vocabulary = 50288, width = 768, blocks = 24, heads = 24, head_width = 64, state = 128, kernel = 4;
};

/// Token ids [batch, length] in, logits out, matrices in f16; any batch and length. Weights are the same at every call.
/// llama has a head of its own and rotary attention; mamba2's head is tied to its embedding.
[[nodiscard]] std::shared_ptr<ov::Model> synthetic_llama(const llama_shape& shape);
[[nodiscard]] std::shared_ptr<ov::Model> synthetic_mamba2(const mamba2_shape& shape);

/// By name: "mamba2-130m", "llama-130m". Throws klens::argument_error for any other.
[[nodiscard]] std::shared_ptr<ov::Model> synthetic_model(const std::string& name);

/// Mamba-2's scan as products of matrices over the whole sequence, quadratic in its length:
///   y_t = sum over s <= t of exp(decay_{s+1} + ... + decay_t) (c_t . b_s) x_s
/// which is what h_t = exp(decay_t) h_{t-1} + b_t x_t, y_t = c_t . h_t gives.
/// Shapes     decay [batch, length, heads], b and c [batch, length, state], x and the result [batch, length, heads, head
///            width].
[[nodiscard]] ov::Output<ov::Node> state_space_product(const ov::Output<ov::Node>& decay, const ov::Output<ov::Node>& b,
                                                       const ov::Output<ov::Node>& c, const ov::Output<ov::Node>& x);

}  // namespace openvino_adapter
