#include <algorithm>
#include <functional>
#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../experts.hpp"
#include "../gated_delta.hpp"
#include "../gated_mlp.hpp"
#include "../model_types.hpp"
#include "../rope.hpp"

namespace programs {
namespace {

/// Norms of the residual stream, queries and keys store what their factor has above 1.
constexpr float above_one = 1;

struct shared_shape {
  std::size_t width = 0, layers = 0;
  double epsilon = 0;
  attention_shape attends{};
  delta_shape mixes{};
  std::vector<std::string> kinds{};
};

shared_shape shape_of(const config& fields, std::size_t width, std::size_t layers, std::size_t kv_heads) {
  shared_shape shape{.width = width, .layers = layers, .epsilon = fields.number("rms_norm_eps", 1e-6)};
  shape.attends = attention_of(fields, width, kv_heads, 256);
  shape.attends.bias = shape.attends.output_bias = fields.flag("attention_bias", false);
  shape.attends.gated = true;
  fields.require("attn_output_gate", true);
  shape.mixes = delta_shape_of(fields, width);
  shape.kinds = layer_kinds(fields, layers);
  const std::size_t interval = fields.count("full_attention_interval", 4);
  for (std::size_t i = shape.kinds.size(); i < layers; ++i)
    shape.kinds.push_back((i + 1) % interval == 0 ? "full_attention" : "linear_attention");
  require_silu(fields);
  fields.ignore({"mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "mlp_only_layers",
                 "output_router_logits", "router_aux_loss_coef", "use_sliding_window", "sliding_window"});
  return shape;
}

/// The gated delta net with its projections in one tensor of queries, keys, values and gates and one of rates and steps, each
/// key head by key head.
gated_delta take_interleaved(checkpoint& tensors, const std::string& prefix, const shared_shape& of) {
  const delta_shape& s = of.mixes;
  gated_delta taken = take_gated_delta(tensors, prefix, s, of.epsilon);
  const std::size_t served = s.value_heads / s.key_heads, values = served * s.value_width, rows = 2 * (s.key_width + values);
  const std::pair<const char*, std::size_t> sizes[] = {{"q", s.key_width}, {"k", s.key_width}, {"v", values}, {"z", values}};
  const std::size_t columns[] = {0, s.keys(), 2 * s.keys(), s.mixed()};
  std::vector<row_range> parts, rates;
  for (std::size_t head = 0; head < s.key_heads; ++head) {
    std::size_t first = head * rows;
    for (const auto& [name, size] : sizes) {
      parts.push_back({name + std::to_string(head), first, size});
      first += size;
    }
    rates.push_back({"b" + std::to_string(head), 2 * head * served, served});
    rates.push_back({"a" + std::to_string(head), (2 * head + 1) * served, served});
  }
  const linear fused = take_linear(tensors, prefix + "in_proj_qkvz", s.mixed() + s.values(), s.width, false, parts);
  const linear both = take_linear(tensors, prefix + "in_proj_ba", 2 * s.value_heads, s.width, false, rates);
  const auto rows_of = [](linear whole, const row_range& range) {
    whole.first = range.first;
    whole.rows = range.rows;
    return whole;
  };
  for (std::size_t i = 0; i < parts.size(); ++i)
    taken.projections.emplace_back(rows_of(fused, parts[i]), columns[i % 4] + i / 4 * parts[i].rows);
  for (std::size_t i = 0; i < rates.size(); ++i)
    taken.projections.emplace_back(rows_of(both, rates[i]),
                                   s.mixed() + s.values() + (i % 2) * s.value_heads + i / 2 * rates[i].rows);
  taken.conv = {tensors.take(prefix + "conv1d.weight", {s.mixed(), 1, s.taps})};
  return taken;
}

/// The same with a projection for each of them, queries, keys and values in one.
gated_delta take_separate(checkpoint& tensors, const std::string& prefix, const shared_shape& of) {
  const delta_shape& s = of.mixes;
  gated_delta taken = take_gated_delta(tensors, prefix, s, of.epsilon);
  const std::size_t values = s.mixed(), rates = values + s.values();
  taken.projections = {{take_linear(tensors, prefix + "in_proj_qkv", s.mixed(), s.width, false,
                                    {{"q", 0, s.keys()}, {"k", s.keys(), s.keys()}, {"v", 2 * s.keys(), s.values()}}),
                        0},
                       {take_linear(tensors, prefix + "in_proj_z", s.values(), s.width, false), values},
                       {take_linear(tensors, prefix + "in_proj_b", s.value_heads, s.width, false), rates},
                       {take_linear(tensors, prefix + "in_proj_a", s.value_heads, s.width, false), rates + s.value_heads}};
  taken.conv = {tensors.take(prefix + "conv1d.weight", {s.mixed(), 1, s.taps})};
  return taken;
}

using take_mixer = gated_delta(checkpoint&, const std::string&, const shared_shape&);
using take_network = std::function<residual_step(rms_norm, std::size_t layer, const std::string& prefix)>;

architecture build(const config& fields, checkpoint& tensors, const shared_shape& of, std::size_t vocabulary,
                   take_mixer* mixer_of, const take_network& network_of) {
  const rope position(fields, of.attends.head_width, 0.25, true);
  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, of.width, false);
  const auto norm = [&](const std::string& name, std::size_t size) {
    return take_norm(tensors, name, size, of.epsilon, above_one);
  };
  built.final_norm = norm("model.norm", of.width);
  for (std::size_t i = 0; i < of.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    const rms_norm before = norm(prefix + "input_layernorm", of.width);
    if (of.kinds[i] == "full_attention") {
      attention mixer = take_attention(tensors, prefix + "self_attn.", of.attends);
      mixer.q_norm = norm(prefix + "self_attn.q_norm", of.attends.head_width);
      mixer.k_norm = norm(prefix + "self_attn.k_norm", of.attends.head_width);
      mixer.position = position;
      built.steps.push_back(single(before, std::move(mixer)));
    } else if (of.kinds[i] == "linear_attention") {
      built.steps.push_back(single(before, mixer_of(tensors, prefix + "linear_attn.", of)));
    } else {
      fields.refuse("layer_types", "has an entry " + klens::detail::name_text(of.kinds[i]) + ", which is not carried out");
    }
    tensors.begin_stage();
    const rms_norm between = norm(prefix + "post_attention_layernorm", of.width);
    built.steps.push_back(network_of(between, i, prefix + "mlp."));
  }
  tensors.leave_out("mtp.");
  return built;
}

}  // namespace

// Qwen3-Next: gated delta nets, and gated attention in every fourth layer, each followed by a mixture of experts with a gated
// shared one.
architecture build_qwen3_next(const config& fields, checkpoint& tensors) {
  const shared_shape of = shape_of(fields, fields.count("hidden_size", 2048), fields.count("num_hidden_layers", 48), 2);
  const std::size_t mlp = fields.count("intermediate_size", 5632), count = fields.count_or_zero("num_experts", 512),
                    active = fields.count("num_experts_per_tok", 10), inner = fields.count("moe_intermediate_size", 512),
                    shared = fields.count("shared_expert_intermediate_size", 512),
                    interval = fields.count("decoder_sparse_step", 1);
  if (count > 0 && active > count) fields.refuse("num_experts_per_tok", "is above num_experts");
  const bool sum_to_one = fields.flag("norm_topk_prob", true);
  const std::vector<double> dense = fields.numbers("mlp_only_layers", {});
  const take_network network_of = [&](rms_norm norm, std::size_t layer, const std::string& prefix) {
    const bool sparse =
        count > 0 && (layer + 1) % interval == 0 && std::ranges::find(dense, static_cast<double>(layer)) == dense.end();
    if (!sparse) return single(norm, take_gated_mlp(tensors, prefix, of.width, mlp));
    experts several = take_experts(tensors, prefix, count, active, of.width, inner, "gate");
    several.sum_to_one = sum_to_one;
    residual_step step = single(norm, std::move(several));
    gate_of_position gated;
    gated.gate = take_linear(tensors, prefix + "shared_expert_gate", 1, of.width, false);
    gated.of = take_gated_mlp(tensors, prefix + "shared_expert.", of.width, shared);
    step.branches.push_back({std::make_unique<gate_of_position>(std::move(gated))});
    return step;
  };
  return build(fields, tensors, of, fields.count("vocab_size", 151936), take_interleaved, network_of);
}

// Qwen3.5: the same with gated MLPs.
architecture build_qwen3_5(const config& fields, checkpoint& tensors) {
  const shared_shape of = shape_of(fields, fields.count("hidden_size", 4096), fields.count("num_hidden_layers", 32), 4);
  const std::size_t mlp = fields.count("intermediate_size", 12288);
  const take_network network_of = [&](rms_norm norm, std::size_t, const std::string& prefix) {
    return single(norm, take_gated_mlp(tensors, prefix, of.width, mlp));
  };
  return build(fields, tensors, of, fields.count("vocab_size", 248320), take_separate, network_of);
}

}  // namespace programs
