#include <algorithm>
#include <cmath>
#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../gated_mlp.hpp"
#include "../model_types.hpp"
#include "../rope.hpp"
#include "../short_conv.hpp"

namespace programs {
namespace {

/// The inner width of the MLPs, which configs give before it is cut to two thirds and rounded up.
std::size_t mlp_width_of(const config& fields) {
  const std::size_t given = fields.count("block_ff_dim", fields.count("intermediate_size", 12288));
  const std::size_t multiple = fields.count("block_multiple_of", 256);
  const bool any_factor = !fields.is_null("block_ffn_dim_multiplier");
  const double factor = fields.number("block_ffn_dim_multiplier", 1);
  if (!fields.flag("block_auto_adjust_ff_dim", true)) return given;
  const std::size_t cut = 2 * given / 3;
  if (!any_factor) return cut;
  const double scaled = std::floor(factor * static_cast<double>(cut));
  if (!(scaled >= 1 && scaled <= 1e9)) fields.refuse("block_ffn_dim_multiplier", "times two thirds of the width is no count");
  return (static_cast<std::size_t>(scaled) + multiple - 1) / multiple * multiple;
}

}  // namespace

// LFM2 (arXiv:2511.23404): short convolutions between gates, with attention in their place in some layers, each followed by a
// gated MLP.
architecture build_lfm2(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 2560), vocabulary = fields.count("vocab_size", 65536);
  const std::size_t layers = fields.count("num_hidden_layers", 32), mlp = mlp_width_of(fields);
  const std::size_t taps = fields.count("conv_L_cache", 3);
  const double epsilon = fields.number("norm_eps", 1e-5);
  const bool conv_bias = fields.flag("conv_bias", false);
  const attention_shape attends = attention_of(fields, width, 8);
  const rope position(fields, attends.head_width, 1, false, 1e6);
  std::vector<std::string> kinds = layer_kinds(fields, layers);
  const std::vector<double> with_attention = fields.numbers("full_attn_idxs", {});
  const bool all = with_attention.empty() && !fields.has("full_attn_idxs");
  for (std::size_t i = kinds.size(); i < layers; ++i)
    kinds.push_back(all || std::ranges::find(with_attention, static_cast<double>(i)) != with_attention.end() ? "full_attention"
                                                                                                             : "conv");
  const bool tied = fields.flag("tie_embedding", true);
  fields.ignore({"conv_dim", "conv_dim_out", "block_dim", "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale",
                 "block_use_swiglu", "block_use_xavier_init", "conv_use_xavier_init", "use_pos_enc", "num_heads", "theta"});

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, width, tied);
  built.final_norm = take_norm(tensors, "model.embedding_norm", width, epsilon);
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    const rms_norm before = take_norm(tensors, prefix + "operator_norm", width, epsilon);
    if (kinds[i] == "full_attention") {
      attention mixer = take_attention(tensors, prefix + "self_attn.", attends, "out_proj");
      mixer.q_norm = take_norm(tensors, prefix + "self_attn.q_layernorm", attends.head_width, epsilon);
      mixer.k_norm = take_norm(tensors, prefix + "self_attn.k_layernorm", attends.head_width, epsilon);
      mixer.position = position;
      built.steps.push_back(single(before, std::move(mixer)));
    } else if (kinds[i] == "conv") {
      built.steps.push_back(single(before, take_short_conv(tensors, prefix + "conv.", width, taps, conv_bias)));
    } else {
      fields.refuse("layer_types", "has an entry " + klens::detail::name_text(kinds[i]) + ", which is not carried out");
    }
    tensors.begin_stage();
    built.steps.push_back(single(take_norm(tensors, prefix + "ffn_norm", width, epsilon),
                                 take_gated_mlp(tensors, prefix + "feed_forward.", width, mlp, false, activation::silu,
                                                {.gate = "w1", .up = "w3", .down = "w2"})));
  }
  return built;
}

}  // namespace programs
