#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../gated_mlp.hpp"
#include "../model_types.hpp"
#include "../rope.hpp"

namespace programs {

// Llama (arXiv:2302.13971, 2307.09288, 2407.21783): attention with rotary positions and a gated MLP by turns.
architecture build_llama(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 4096), vocabulary = fields.count("vocab_size", 32000);
  const std::size_t mlp = fields.count("intermediate_size", 11008);
  const double epsilon = fields.number("rms_norm_eps", 1e-6);
  attention_shape attends = attention_of(fields, width, 0);
  attends.bias = fields.flag("attention_bias", false);
  const bool mlp_bias = fields.flag("mlp_bias", false);
  const rope position(fields, attends.head_width, 1, false);
  require_silu(fields);
  fields.ignore({"pretraining_tp"});

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, width, false);
  built.final_norm = take_norm(tensors, "model.norm", width, epsilon);
  for (std::size_t i = 0, layers = fields.count("num_hidden_layers", 32); i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    const rms_norm before = take_norm(tensors, prefix + "input_layernorm", width, epsilon);
    attention mixer = take_attention(tensors, prefix + "self_attn.", attends);
    mixer.position = position;
    built.steps.push_back(single(before, std::move(mixer)));
    tensors.begin_stage();
    built.steps.push_back(single(take_norm(tensors, prefix + "post_attention_layernorm", width, epsilon),
                                 take_gated_mlp(tensors, prefix + "mlp.", width, mlp, mlp_bias)));
  }
  return built;
}

}  // namespace programs
