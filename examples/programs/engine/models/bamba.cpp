#include <algorithm>
#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../gated_mlp.hpp"
#include "../mamba2.hpp"
#include "../model_types.hpp"
#include "../rope.hpp"

namespace programs {

// Bamba: Mamba-2 mixers, with attention in their place in some blocks, each followed by a gated MLP. Half of each head turns.
architecture build_bamba(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 4096), vocabulary = fields.count("vocab_size", 128000);
  const std::size_t mlp = fields.count("intermediate_size", 14336);
  const double epsilon = fields.number("rms_norm_eps", 1e-5);
  attention_shape attends = attention_of(fields, width, 8);
  attends.bias = attends.output_bias = fields.flag("attention_bias", false);
  const bool mlp_bias = fields.flag("mlp_bias", false);
  const rope position(fields, attends.head_width, 0.5, true);
  const mamba2_shape mixes = mamba2_of(fields, width, expanded(fields, "mamba_expand", width), epsilon);
  const std::vector<double> with_attention = fields.numbers("attn_layer_indices", {});
  require_silu(fields);
  fields.ignore({"z_loss_coefficient"});

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, width, false);
  built.final_norm = take_norm(tensors, "model.final_layernorm", width, epsilon);
  for (std::size_t i = 0, layers = fields.count("num_hidden_layers", 32); i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    const rms_norm before = take_norm(tensors, prefix + "input_layernorm", width, epsilon);
    if (std::ranges::find(with_attention, static_cast<double>(i)) != with_attention.end()) {
      attention mixer = take_attention(tensors, prefix + "self_attn.", attends);
      mixer.position = position;
      built.steps.push_back(single(before, std::move(mixer)));
    } else {
      mamba2 mixer = take_mamba2(tensors, prefix + "mamba.", mixes);
      built.steps.push_back(single(before, std::move(mixer)));
    }
    tensors.begin_stage();
    built.steps.push_back(single(take_norm(tensors, prefix + "pre_ff_layernorm", width, epsilon),
                                 take_gated_mlp(tensors, prefix + "feed_forward.", width, mlp, mlp_bias)));
  }
  return built;
}

}  // namespace programs
