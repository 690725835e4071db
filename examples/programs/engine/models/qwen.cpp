#include <string>

#include "../common_fields.hpp"
#include "../model_types.hpp"
#include "../plain_decoder.hpp"
#include "../rope.hpp"

namespace programs {
namespace {

/// What Qwen2 and Qwen3 share: positions, and windows in the layers from max_window_layers on where there are any.
architecture build_qwen(const config& fields, checkpoint& tensors, plain_decoder of, bool head_norms) {
  const rope position(fields, of.attends.head_width, 1, false);
  std::vector<std::string> kinds = layer_kinds(fields, of.layers);
  const std::size_t full = fields.count_or_zero("max_window_layers", 28);
  const bool slides = fields.flag("use_sliding_window", false) && fields.has("sliding_window");
  for (std::size_t i = kinds.size(); i < of.layers; ++i)
    kinds.push_back(slides && i >= full ? "sliding_attention" : "full_attention");
  const std::vector<attention_mask> masks = windows_of(fields, kinds);
  of.complete = [&](attention& mixer, std::size_t layer, const std::string& prefix) {
    mixer.position = position;
    mixer.mask = masks[layer];
    if (!head_norms) return;
    mixer.q_norm = take_norm(tensors, prefix + "q_norm", of.attends.head_width, of.epsilon);
    mixer.k_norm = take_norm(tensors, prefix + "k_norm", of.attends.head_width, of.epsilon);
  };
  return build_plain_decoder(fields, tensors, of);
}

plain_decoder decoder_of(const config& fields) {
  return {.width = fields.count("hidden_size", 4096),
          .vocabulary = fields.count("vocab_size", 151936),
          .layers = fields.count("num_hidden_layers", 32),
          .mlp = fields.count("intermediate_size", 22016),
          .epsilon = fields.number("rms_norm_eps", 1e-6),
          .attends = {},
          .complete = {}};
}

}  // namespace

// Qwen2 (arXiv:2407.10671): Llama with biases in the projections to queries, keys and values.
architecture build_qwen2(const config& fields, checkpoint& tensors) {
  plain_decoder of = decoder_of(fields);
  of.attends = attention_of(fields, of.width, 32);
  of.attends.bias = true;
  fields.require("attention_bias", true);
  return build_qwen(fields, tensors, of, false);
}

// Qwen3 (arXiv:2505.09388): Llama with norms of each query and key head.
architecture build_qwen3(const config& fields, checkpoint& tensors) {
  plain_decoder of = decoder_of(fields);
  of.attends = attention_of(fields, of.width, 32, 128);
  of.attends.bias = of.attends.output_bias = fields.flag("attention_bias", false);
  return build_qwen(fields, tensors, of, true);
}

}  // namespace programs
