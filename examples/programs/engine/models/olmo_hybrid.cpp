#include <optional>
#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../gated_delta.hpp"
#include "../gated_mlp.hpp"
#include "../model_types.hpp"
#include "../rope.hpp"

namespace programs {
namespace {

/// Projections and convolutions of queries, keys and values each in a tensor of its own. Some files cut the convolutions into
/// three tensors of equal size; below one another they are the same.
gated_delta take_delta(const config& fields, checkpoint& tensors, const std::string& prefix, const delta_shape& s) {
  gated_delta taken = take_gated_delta(tensors, prefix, s, 1e-5, "o_norm", "o_proj");
  const std::size_t rates = s.mixed() + s.values();
  const auto project = [&](const char* name, std::size_t rows, std::size_t column) {
    taken.projections.emplace_back(take_linear(tensors, prefix + name, rows, s.width, false), column);
  };
  project("q_proj", s.keys(), 0);
  project("k_proj", s.keys(), s.keys());
  project("v_proj", s.values(), 2 * s.keys());
  project("g_proj", s.values(), s.mixed());
  project("b_proj", s.value_heads, rates);
  project("a_proj", s.value_heads, rates + s.value_heads);
  std::size_t channels = 0;
  for (const char* const name : {"q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"}) {
    const klens::stored_tensor* const stored = tensors.find(prefix + name);
    const std::size_t rows = stored && !stored->shape.empty() ? stored->shape.front() : s.keys();
    if (rows > s.mixed() - channels) fields.refuse("linear_key_head_dim", "does not fit the convolutions of the weights");
    taken.conv.push_back(tensors.take(prefix + name, {rows, 1, s.taps}));
    channels += rows;
  }
  if (channels != s.mixed()) fields.refuse("linear_key_head_dim", "does not fit the convolutions of the weights");
  taken.learning_scale = fields.flag("linear_allow_neg_eigval", true) ? 2 : 1;
  return taken;
}

}  // namespace

// OLMo Hybrid: gated delta nets after a norm, and attention, in every fourth layer, before one; gated MLPs likewise.
architecture build_olmo_hybrid(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 3840), vocabulary = fields.count("vocab_size", 100352);
  const std::size_t mlp = fields.count("intermediate_size", 11008), layers = fields.count("num_hidden_layers", 32);
  const double epsilon = fields.number("rms_norm_eps", 1e-6);
  attention_shape attends = attention_of(fields, width, 0);
  attends.bias = attends.output_bias = fields.flag("attention_bias", false);
  delta_shape mixes{.width = width,
                    .key_heads = fields.count("linear_num_key_heads", attends.heads),
                    .value_heads = fields.count("linear_num_value_heads", attends.heads),
                    .taps = fields.count("linear_conv_kernel_dim", 4)};
  mixes.key_width = fields.count("linear_key_head_dim", 3 * width / 4 / mixes.key_heads);
  mixes.value_width = fields.count("linear_value_head_dim", 2 * mixes.key_width);
  if (mixes.value_heads % mixes.key_heads != 0) fields.refuse("linear_num_key_heads", "does not divide linear_num_value_heads");
  std::optional<rope> position;  // released models have none
  if (fields.has("rope_parameters") || fields.has("rope_scaling") || fields.has("rope_theta"))
    position.emplace(fields, attends.head_width, 1, false);
  std::vector<std::string> kinds = layer_kinds(fields, layers);
  for (std::size_t i = kinds.size(); i < layers; ++i) kinds.push_back(i % 4 == 3 ? "full_attention" : "linear_attention");
  require_silu(fields);
  fields.ignore({"linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_dt_init_floor"});

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, width, false);
  built.final_norm = take_norm(tensors, "model.norm", width, epsilon);
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const auto norm = [&](const char* name, const char* other) {
      return take_norm(tensors, prefix + (tensors.contains(prefix + name + ".weight") ? name : other), width, epsilon);
    };
    const auto network = [&] { return take_gated_mlp(tensors, prefix + "mlp.", width, mlp); };
    tensors.begin_stage();
    if (kinds[i] == "full_attention") {
      attention mixer = take_attention(tensors, prefix + "self_attn.", attends);
      mixer.q_norm = take_norm(tensors, prefix + "self_attn.q_norm", attends.heads * attends.head_width, epsilon);
      mixer.k_norm = take_norm(tensors, prefix + "self_attn.k_norm", attends.kv_heads * attends.head_width, epsilon);
      mixer.position = position;
      const rms_norm after = norm("feedforward_layer_norm", "post_attention_layernorm");  // some files rename both
      built.steps.push_back(single(rms_norm{}, std::move(mixer), after));
      tensors.begin_stage();
      const rms_norm last = take_norm(tensors, prefix + "post_feedforward_layernorm", width, epsilon);
      built.steps.push_back(single(rms_norm{}, network(), last));
    } else if (kinds[i] == "linear_attention") {
      const rms_norm before = norm("attention_layer_norm", "input_layernorm");
      built.steps.push_back(single(before, take_delta(fields, tensors, prefix + "linear_attn.", mixes)));
      tensors.begin_stage();
      built.steps.push_back(single(norm("feedforward_layer_norm", "post_attention_layernorm"), network()));
    } else {
      fields.refuse("layer_types", "has an entry " + klens::detail::name_text(kinds[i]) + ", which is not carried out");
    }
  }
  return built;
}

}  // namespace programs
