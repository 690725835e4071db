#include <limits>
#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../gated_mlp.hpp"
#include "../mamba2.hpp"
#include "../model_types.hpp"

namespace programs {
namespace {

/// layers_block_type, or the older hybrid_override_pattern: M, * and - for Mamba-2, attention and MLP.
std::vector<std::string> kinds_of(const config& fields) {
  std::vector<std::string> kinds = fields.texts("layers_block_type");
  if (kinds.empty()) {
    for (const char each : fields.text("hybrid_override_pattern", ""))
      kinds.push_back(each == 'M'   ? "linear_attention"
                      : each == '*' ? "full_attention"
                      : each == '-' ? "mlp"
                                    : std::string(1, each));
    if (kinds.empty()) fields.refuse("layers_block_type", "is missing; add it");
  }
  fields.ignore({"hybrid_override_pattern", "num_hidden_layers"});
  return kinds;
}

}  // namespace

// Nemotron-H (arXiv:2504.03624): Mamba-2 mixers, a few attention layers and MLPs with squared ReLU, each a layer of its own.
architecture build_nemotron_h(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 4096), vocabulary = fields.count("vocab_size", 131072);
  const std::size_t mlp = fields.count("intermediate_size", 21504);
  const double epsilon = fields.number("layer_norm_epsilon", fields.number("rms_norm_eps", 1e-5));
  const attention_shape attends = attention_of(fields, width, 8, fields.count("attention_head_dim", 128));
  const bool mlp_bias = fields.flag("mlp_bias", false), mixer_bias = fields.flag("use_bias", false);
  const std::size_t head_width = fields.count("mamba_head_dim", 64), heads = fields.count("mamba_num_heads", 128);
  const mamba2_shape mixes{
      .width = width,
      .inner = heads * head_width,
      .heads = heads,
      .groups = fields.count("n_groups", 8),
      .states = fields.count("ssm_state_size", 128),
      .taps = fields.count("conv_kernel", 4),
      .conv_bias = fields.flag("use_conv_bias", true),
      .in_bias = mixer_bias,
      .out_bias = mixer_bias,
      .epsilon = epsilon,
      .step_limits = {static_cast<float>(fields.number("time_step_min", 0.001)), std::numeric_limits<float>::infinity()}};
  check_heads(fields, mixes, "mamba_num_heads", head_width, "n_groups");
  const activation f = activation_of(fields, "mlp_hidden_act", "relu2");
  const std::vector<std::string> kinds = kinds_of(fields);
  fields.require("mamba_hidden_act", "silu");
  fields.require("attention_bias", false);
  fields.require("sliding_window", nullptr);
  fields.ignore({"expand", "chunk_size", "rescale_prenorm_residual", "residual_in_fp32", "time_step_limit", "time_step_max",
                 "time_step_floor", "time_step_rank", "use_mamba_kernels", "mamba_ssm_cache_dtype", "mtp_layers_block_type",
                 "num_nextn_predict_layers", "mamba_proj_bias", "output_router_logits", "rope_theta"});
  // Of experts, which a layer of kind "moe" would have.
  fields.ignore({"n_routed_experts", "n_shared_experts", "moe_intermediate_size", "moe_shared_expert_intermediate_size",
                 "moe_latent_size", "moe_shared_expert_overlap", "num_experts_per_tok", "routed_scaling_factor", "n_group",
                 "topk_group", "norm_topk_prob"});

  const std::string embedding = tensors.contains("backbone.embeddings.weight") ? "backbone" : "model";
  architecture built = take_ends(fields, tensors, embedding + ".embeddings.weight", vocabulary, width, false);
  built.final_norm = take_norm(tensors, embedding + ".norm_f", width, epsilon);
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const std::string prefix = embedding + ".layers." + std::to_string(i) + ".", own = prefix + "mixer.";
    tensors.begin_stage();
    const rms_norm before = take_norm(tensors, prefix + "norm", width, epsilon);
    if (kinds[i] == "linear_attention" || kinds[i] == "mamba") {
      built.steps.push_back(single(before, take_mamba2(tensors, own, mixes)));
    } else if (kinds[i] == "full_attention" || kinds[i] == "attention") {
      built.steps.push_back(single(before, take_attention(tensors, own, attends)));
    } else if (kinds[i] == "mlp") {
      plain_mlp network;
      network.up_proj = take_linear(tensors, own + "up_proj", mlp, width, mlp_bias);
      network.down_proj = take_linear(tensors, own + "down_proj", width, mlp, mlp_bias);
      network.f = f;
      built.steps.push_back(single(before, std::move(network)));
    } else {
      fields.refuse("layers_block_type", "has an entry " + klens::detail::name_text(kinds[i]) + ", which is not carried out");
    }
  }
  tensors.leave_out("mtp.");
  return built;
}

}  // namespace programs
