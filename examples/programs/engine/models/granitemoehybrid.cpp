#include <optional>
#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../experts.hpp"
#include "../gated_mlp.hpp"
#include "../mamba2.hpp"
#include "../model_types.hpp"
#include "../rope.hpp"

namespace programs {

// Granite 4: Mamba-2 mixers, with attention in their place in some layers, each followed by a gated MLP and, in the larger
// models, a mixture of experts beside it; factors on embedding, branches, scores and logits.
architecture build_granitemoehybrid(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 4096), vocabulary = fields.count("vocab_size", 32000);
  const std::size_t layers = fields.count("num_hidden_layers", 32), mlp = fields.count("shared_intermediate_size", 1024);
  const double epsilon = fields.number("rms_norm_eps", 1e-6);
  attention_shape attends = attention_of(fields, width, 0);
  attends.bias = attends.output_bias = fields.flag("attention_bias", false);
  const mamba2_shape mixes = mamba2_of(fields, width, expanded(fields, "mamba_expand", width), epsilon);
  const std::size_t expert_count = fields.count_or_zero("num_local_experts", 8),
                    active = fields.count_or_zero("num_experts_per_tok", 2),
                    expert_width = fields.count("intermediate_size", 11008);
  if (expert_count > 0 && (active == 0 || active > expert_count))
    fields.refuse("num_experts_per_tok", "is not from 1 to num_local_experts");
  const auto factor = [&](std::string_view field) { return static_cast<float>(fields.number(field, 1)); };
  const float score_scale = factor("attention_multiplier"), branch_scale = factor("residual_multiplier");
  std::optional<rope> position;
  const std::string positions = fields.text("position_embedding_type", "nope");
  if (positions == "rope")
    position.emplace(fields, attends.head_width, 1, false);
  else if (positions != "nope")
    fields.refuse("position_embedding_type", "is " + klens::detail::name_text(positions) + "; klens carries out rope and nope");
  std::vector<std::string> kinds = layer_kinds(fields, layers);
  if (kinds.empty()) kinds = layer_kinds(fields, layers, "layers_block_type");
  if (kinds.empty()) kinds.assign(layers, "linear_attention");
  require_silu(fields);
  fields.ignore({"layers_block_type", "output_router_logits", "router_aux_loss_coef", "rope_theta", "rope_scaling",
                 "rope_parameters", "init_method", "normalization_function", "mamba_chunk_size"});

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, width, false);
  built.embedding_scale = factor("embedding_multiplier");
  const double logit_divisor = fields.number("logits_scaling", 1);
  if (!(logit_divisor != 0)) fields.refuse("logits_scaling", "is 0; logits are divided by it");
  built.head_scale = static_cast<float>(1 / logit_divisor);
  built.final_norm = take_norm(tensors, "model.norm", width, epsilon);
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    residual_step& mixer = built.steps.emplace_back();
    mixer.norm = take_norm(tensors, prefix + "input_layernorm", width, epsilon);
    if (kinds[i] == "full_attention") {
      attention attends_here = take_attention(tensors, prefix + "self_attn.", attends);
      attends_here.score_scale = score_scale;
      attends_here.position = position;
      mixer.branches.push_back({std::make_unique<attention>(std::move(attends_here)), 1, branch_scale});
    } else if (kinds[i] == "linear_attention") {
      mixer.branches.push_back({std::make_unique<mamba2>(take_mamba2(tensors, prefix + "mamba.", mixes)), 1, branch_scale});
    } else {
      fields.refuse("layer_types", "has an entry " + klens::detail::name_text(kinds[i]) + ", which is not carried out");
    }

    tensors.begin_stage();
    residual_step& network = built.steps.emplace_back();
    network.norm = take_norm(tensors, prefix + "post_attention_layernorm", width, epsilon);
    if (expert_count > 0) {
      const std::string moe = prefix + "block_sparse_moe.";
      experts several;
      several.router = take_linear(tensors, moe + "router.layer", expert_count, width, false);
      several.each = take_stacked_mlps(tensors, moe + "input_linear.weight", moe + "output_linear.weight", expert_count, width,
                                       expert_width);
      several.active = active;
      several.sum_to_one = true;
      network.branches.push_back({std::make_unique<experts>(std::move(several)), 1, branch_scale});
    }
    network.branches.push_back({std::make_unique<gated_mlp>(take_fused_mlp(tensors, prefix + "shared_mlp.input_linear",
                                                                           prefix + "shared_mlp.output_linear", width, mlp)),
                                1, branch_scale});
  }
  return built;
}

}  // namespace programs
