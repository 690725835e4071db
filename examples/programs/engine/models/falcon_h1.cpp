#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../gated_mlp.hpp"
#include "../mamba2.hpp"
#include "../model_types.hpp"
#include "../rope.hpp"

namespace programs {
namespace {

float scale_of(const config& fields, std::string_view field) { return static_cast<float>(fields.number(field, 1)); }

template <std::size_t Count>
std::array<float, Count> scales_of(const config& fields, std::string_view field) {
  const std::vector<double> given = fields.numbers(field, std::vector<double>(Count, 1));
  if (given.size() != Count) fields.refuse(field, "has not " + std::to_string(Count) + " numbers");
  std::array<float, Count> scales;
  for (std::size_t i = 0; i < Count; ++i) scales[i] = static_cast<float>(given[i]);
  return scales;
}

}  // namespace

// Falcon-H1 (arXiv:2507.22448): attention and a Mamba-2 mixer side by side on the same norm, then a gated MLP; a factor on
// nearly everything.
architecture build_falcon_h1(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 4096), vocabulary = fields.count("vocab_size", 128000);
  const std::size_t mlp = fields.count("intermediate_size", 14336);
  const double epsilon = fields.number("rms_norm_eps", 1e-5);
  attention_shape attends = attention_of(fields, width, 8);
  attends.bias = attends.output_bias = fields.flag("attention_bias", false);
  const bool mlp_bias = fields.flag("mlp_bias", false);
  const rope position(fields, attends.head_width, 1, false);
  const std::size_t expanded_width = expanded(fields, "mamba_expand", width);
  mamba2_shape mixes =
      mamba2_of(fields, width, fields.count("mamba_d_ssm", fields.is_null("mamba_d_ssm") ? expanded_width : 1024), epsilon);
  mixes.out_bias = fields.flag("projectors_bias", false);
  mixes.norm = fields.flag("mamba_rms_norm", false);
  const bool norm_before_gate = fields.flag("mamba_norm_before_gate", true);
  const auto mlp_scales = scales_of<2>(fields, "mlp_multipliers");
  const auto mixer_scales = scales_of<5>(fields, "ssm_multipliers");
  const float key_scale = scale_of(fields, "key_multiplier");
  const float attention_in = scale_of(fields, "attention_in_multiplier"),
              attention_out = scale_of(fields, "attention_out_multiplier");
  const float mixer_in = scale_of(fields, "ssm_in_multiplier"), mixer_out = scale_of(fields, "ssm_out_multiplier");
  require_silu(fields);
  fields.require("mamba_use_mlp", true);
  fields.require("attn_layer_indices", nullptr);
  fields.ignore({"time_step_min", "time_step_max", "time_step_floor", "mlp_expansion_factor"});

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, width, false);
  built.embedding_scale = scale_of(fields, "embedding_multiplier");
  built.head_scale = scale_of(fields, "lm_head_multiplier");
  built.final_norm = take_norm(tensors, "model.final_layernorm", width, epsilon);
  for (std::size_t i = 0, layers = fields.count("num_hidden_layers", 32); i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    mamba2 mixer = take_mamba2(tensors, prefix + "mamba.", mixes);
    mixer.scales = mixer_scales;
    mixer.norm_before_gate = norm_before_gate;
    attention beside = take_attention(tensors, prefix + "self_attn.", attends);
    beside.key_scale = key_scale;
    beside.position = position;
    residual_step& mixers = built.steps.emplace_back();
    mixers.norm = take_norm(tensors, prefix + "input_layernorm", width, epsilon);
    mixers.branches.push_back({std::make_unique<mamba2>(std::move(mixer)), mixer_in, mixer_out});
    mixers.branches.push_back({std::make_unique<attention>(std::move(beside)), attention_in, attention_out});

    tensors.begin_stage();
    gated_mlp after = take_gated_mlp(tensors, prefix + "feed_forward.", width, mlp, mlp_bias);
    after.gate_scale = mlp_scales[0];
    after.down_scale = mlp_scales[1];
    built.steps.push_back(single(take_norm(tensors, prefix + "pre_ff_layernorm", width, epsilon), std::move(after)));
  }
  return built;
}

}  // namespace programs
