#include <cmath>
#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../gated_mlp.hpp"
#include "../model_types.hpp"
#include "../rope.hpp"

namespace programs {
namespace {

/// Positions of the layers with a window, and of those without.
struct positions {
  rope sliding, full;
};

/// One object for each kind of layer in newer configs; rope_local_base_freq, rope_theta and rope_scaling in older ones.
positions positions_of(const config& fields, std::size_t head_width) {
  const rope::defaults full{.theta = fields.number("rope_theta", 1e6),
                            .context = static_cast<double>(fields.count("max_position_embeddings", 131072))};
  rope::defaults sliding = full;
  sliding.theta = fields.number("rope_local_base_freq", 1e4);
  const config all = fields.has("rope_parameters") ? fields.object("rope_parameters") : fields.empty_object("rope_parameters");
  const auto kind = [&](const char* name) { return all.has(name) ? all.object(name) : all.empty_object(name); };
  const config scaling =
      fields.has("rope_scaling") && !fields.is_empty("rope_scaling") ? fields.object("rope_scaling") : kind("full_attention");
  const positions read{rope(kind("sliding_attention"), head_width, sliding), rope(scaling, head_width, full)};
  all.settle_rest();
  return read;
}

}  // namespace

// Gemma 3 (arXiv:2503.19786): norms before and after each part, queries and keys with norms, windows in most layers, which have
// positions of their own.
architecture build_gemma3(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 2304), vocabulary = fields.count("vocab_size", 262208);
  const std::size_t mlp = fields.count("intermediate_size", 9216), layers = fields.count("num_hidden_layers", 26);
  const double epsilon = fields.number("rms_norm_eps", 1e-6);
  attention_shape attends{.width = width,
                          .heads = fields.count("num_attention_heads", 8),
                          .kv_heads = fields.count("num_key_value_heads", 4),
                          .head_width = fields.count("head_dim", 256)};
  if (attends.heads % attends.kv_heads != 0) fields.refuse("num_key_value_heads", "does not divide num_attention_heads");
  attends.bias = attends.output_bias = fields.flag("attention_bias", false);
  const double scalar = fields.number("query_pre_attn_scalar", 256);
  if (!(scalar > 0 && std::isfinite(scalar))) fields.refuse("query_pre_attn_scalar", "is not a positive number");
  const activation f = activation_of(fields, "hidden_activation", "gelu_pytorch_tanh");
  const attention_mask window{.window = fields.count("sliding_window", 4096)};
  const positions turn = positions_of(fields, attends.head_width);
  std::vector<std::string> kinds = layer_kinds(fields, layers);
  const std::size_t pattern = fields.count("sliding_window_pattern", fields.count("_sliding_window_pattern", 6));
  for (std::size_t i = kinds.size(); i < layers; ++i)
    kinds.push_back((i + 1) % pattern == 0 ? "full_attention" : "sliding_attention");
  fields.require("attn_logit_softcapping", nullptr);
  fields.require("final_logit_softcapping", nullptr);
  fields.require("use_bidirectional_attention", false);
  fields.ignore({"hidden_act"});  // in early configs, beside hidden_activation, which counts

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, width, true);
  built.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(width)));
  const auto norm = [&](const std::string& name, std::size_t size) { return take_norm(tensors, name, size, epsilon, 1); };
  built.final_norm = norm("model.norm", width);
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    if (kinds[i] != "full_attention" && kinds[i] != "sliding_attention")
      fields.refuse("layer_types", "has an entry " + klens::detail::name_text(kinds[i]) + ", which is not carried out");
    const bool slides = kinds[i] == "sliding_attention";
    tensors.begin_stage();
    attention mixer = take_attention(tensors, prefix + "self_attn.", attends);
    mixer.q_norm = norm(prefix + "self_attn.q_norm", attends.head_width);
    mixer.k_norm = norm(prefix + "self_attn.k_norm", attends.head_width);
    mixer.score_scale = static_cast<float>(1 / std::sqrt(scalar));
    mixer.position = slides ? turn.sliding : turn.full;
    if (slides) mixer.mask = window;
    const rms_norm before = norm(prefix + "input_layernorm", width);
    built.steps.push_back(single(before, std::move(mixer), norm(prefix + "post_attention_layernorm", width)));
    tensors.begin_stage();
    const rms_norm between = norm(prefix + "pre_feedforward_layernorm", width);
    built.steps.push_back(single(between, take_gated_mlp(tensors, prefix + "mlp.", width, mlp, false, f),
                                 norm(prefix + "post_feedforward_layernorm", width)));
  }
  return built;
}

}  // namespace programs
