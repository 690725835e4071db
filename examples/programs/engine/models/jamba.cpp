#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../experts.hpp"
#include "../gated_mlp.hpp"
#include "../mamba.hpp"
#include "../model_types.hpp"

namespace programs {

// Jamba (arXiv:2403.19887): Mamba and attention mixers by turns, each followed by a gated MLP or a mixture of them. No position
// embedding.
architecture build_jamba(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 4096), vocabulary = fields.count("vocab_size", 65536);
  const std::size_t mlp = fields.count("intermediate_size", 14336), layers = fields.count("num_hidden_layers", 32);
  const double epsilon = fields.number("rms_norm_eps", 1e-6);
  const attention_shape attends = attention_of(fields, width, 8);
  const mamba_shape mixes{.width = width,
                          .inner = expanded(fields, "mamba_expand", width),
                          .states = fields.count("mamba_d_state", 16),
                          .rank = rank_of(fields, "mamba_dt_rank", width),
                          .taps = fields.count("mamba_d_conv", 4),
                          .conv_bias = fields.flag("mamba_conv_bias", true),
                          .proj_bias = fields.flag("mamba_proj_bias", false)};
  const std::size_t period = fields.count("attn_layer_period", 8), offset = fields.count_or_zero("attn_layer_offset", 4);
  if (offset >= period) fields.refuse("attn_layer_offset", "is not below attn_layer_period");
  const std::size_t expert_count = fields.count("num_experts", 16), active = fields.count("num_experts_per_tok", 2);
  const std::size_t expert_period = fields.count("expert_layer_period", 2),
                    expert_offset = fields.count_or_zero("expert_layer_offset", 1);
  if (expert_offset >= expert_period) fields.refuse("expert_layer_offset", "is not below expert_layer_period");
  if (expert_count > 1 && active > expert_count) fields.refuse("num_experts_per_tok", "is above num_experts");
  require_silu(fields);
  fields.require("mamba_inner_layernorms", true);
  fields.require("sliding_window", nullptr);
  fields.ignore({"use_mamba_kernels", "use_mambapy", "use_associative_scan", "output_router_logits", "router_aux_loss_coef"});

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, width, false);
  built.final_norm = take_norm(tensors, "model.final_layernorm", width, epsilon);
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    const rms_norm before = take_norm(tensors, prefix + "input_layernorm", width, epsilon);
    if (i % period == offset) {
      built.steps.push_back(single(before, take_attention(tensors, prefix + "self_attn.", attends)));
    } else {
      mamba mixer = take_mamba(tensors, prefix + "mamba.", mixes);
      mixer.step_norm = take_norm(tensors, prefix + "mamba.dt_layernorm", mixes.rank, epsilon);
      mixer.b_norm = take_norm(tensors, prefix + "mamba.b_layernorm", mixes.states, epsilon);
      mixer.c_norm = take_norm(tensors, prefix + "mamba.c_layernorm", mixes.states, epsilon);
      built.steps.push_back(single(before, std::move(mixer)));
    }
    tensors.begin_stage();
    const rms_norm between = take_norm(tensors, prefix + "pre_ff_layernorm", width, epsilon);
    const std::string feed_forward = prefix + "feed_forward.";
    if (expert_count > 1 && i % expert_period == expert_offset)
      built.steps.push_back(single(between, take_experts(tensors, feed_forward, expert_count, active, width, mlp)));
    else
      built.steps.push_back(single(between, take_gated_mlp(tensors, feed_forward, width, mlp)));
  }
  return built;
}

}  // namespace programs
