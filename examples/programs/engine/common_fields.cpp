#include "common_fields.hpp"

#include <cmath>
#include <limits>

namespace programs {

architecture take_ends(const config& fields, checkpoint& tensors, const std::string& embedding, std::size_t vocabulary,
                       std::size_t width, bool tied_by_default) {
  architecture built;
  const std::string head = "lm_head.weight";
  if (!fields.flag("tie_word_embeddings", tied_by_default)) {
    built.embedding = tensors.take_weight(embedding, vocabulary, width);
    built.head = tensors.take_weight(head, vocabulary, width);
    return built;
  }
  // Tied weights may be stored under either name or both; stored twice with different values, they are not tied.
  built.embedding =
      tensors.take_weight(tensors.contains(embedding) || !tensors.contains(head) ? embedding : head, vocabulary, width);
  built.head = built.embedding;
  if (built.embedding->name != head && tensors.contains(head)) {
    if (tensors.same(embedding, head))
      tensors.skip(head);
    else
      built.head = tensors.take_weight(head, vocabulary, width);
  }
  return built;
}

attention_shape attention_of(const config& fields, std::size_t width, std::size_t kv_heads_by_default, std::size_t head_width) {
  attention_shape shape{.width = width, .heads = fields.count("num_attention_heads", 32)};
  shape.kv_heads =
      fields.count("num_key_value_heads",
                   fields.is_null("num_key_value_heads") || kv_heads_by_default == 0 ? shape.heads : kv_heads_by_default);
  if (shape.heads % shape.kv_heads != 0) fields.refuse("num_key_value_heads", "does not divide num_attention_heads");
  if (!fields.has("head_dim") && head_width == 0 && width % shape.heads != 0)
    fields.refuse("num_attention_heads", "does not divide hidden_size, and there is no head_dim");
  shape.head_width = fields.count("head_dim", head_width != 0 ? head_width : width / shape.heads);
  return shape;
}

std::vector<std::string> layer_kinds(const config& fields, std::size_t layers, std::string_view field) {
  std::vector<std::string> kinds = fields.texts(field);
  for (std::string& each : kinds) {
    if (each == "attention") each = "full_attention";
    if (each == "mamba" || each == "mamba2") each = "linear_attention";
  }
  if (!kinds.empty() && kinds.size() != layers)
    fields.refuse(field, "has " + std::to_string(kinds.size()) + " entries for " + std::to_string(layers) + " layers");
  return kinds;
}

std::vector<attention_mask> windows_of(const config& fields, const std::vector<std::string>& kinds) {
  const bool slides = fields.flag("use_sliding_window", false) && fields.has("sliding_window");
  const std::size_t window = slides ? fields.count("sliding_window") : 0;
  fields.ignore({"sliding_window"});
  std::vector<attention_mask> masks;
  for (const std::string& each : kinds) {
    if (each != "full_attention" && each != "sliding_attention")
      fields.refuse("layer_types", "has an entry " + klens::detail::name_text(each) + ", which is not carried out");
    if (each == "sliding_attention" && !slides)
      fields.refuse("sliding_window", "is missing or off, but layer_types asks for it");
    masks.push_back({.window = each == "sliding_attention" ? window : 0});
  }
  return masks;
}

mamba2_shape mamba2_of(const config& fields, std::size_t width, std::size_t inner, double epsilon) {
  const mamba2_shape shape{.width = width,
                           .inner = inner,
                           .heads = fields.count("mamba_n_heads", 128),
                           .groups = fields.count("mamba_n_groups", 1),
                           .states = fields.count("mamba_d_state", 256),
                           .taps = fields.count("mamba_d_conv", 4),
                           .conv_bias = fields.flag("mamba_conv_bias", true),
                           .in_bias = fields.flag("mamba_proj_bias", false),
                           .out_bias = fields.flag("mamba_proj_bias", false),
                           .epsilon = epsilon,
                           .step_limits = step_limits_of(fields)};
  const std::size_t even = inner / shape.heads;
  check_heads(fields, shape, "mamba_n_heads",
              fields.is_text("mamba_d_head", "auto") ? even : fields.count("mamba_d_head", even), "mamba_n_groups");
  fields.ignore({"mamba_chunk_size"});
  return shape;
}

void check_heads(const config& fields, const mamba2_shape& shape, std::string_view heads, std::size_t head_width,
                 std::string_view groups) {
  if (shape.heads * head_width != shape.inner)
    fields.refuse(heads, "times the head width is " + std::to_string(shape.heads * head_width) +
                             ", not the mixer's inner width " + std::to_string(shape.inner));
  if (shape.heads % shape.groups != 0) fields.refuse(groups, "does not divide the number of heads");
}

std::array<float, 2> step_limits_of(const config& fields) {
  const std::vector<double> limits = fields.numbers("time_step_limit", {0, std::numeric_limits<double>::infinity()});
  if (limits.size() != 2 || !(limits[0] <= limits[1]))
    fields.refuse("time_step_limit", "is no pair of a lower and an upper bound");
  return {static_cast<float>(limits[0]), static_cast<float>(limits[1])};
}

std::size_t rank_of(const config& fields, std::string_view field, std::size_t width) {
  const std::size_t by_default = (width + 15) / 16;
  return fields.is_text(field, "auto") ? by_default : fields.count(field, by_default);
}

std::size_t expanded(const config& fields, std::string_view field, std::size_t width) {
  const double inner = std::floor(fields.number(field, 2) * static_cast<double>(width));
  if (!(inner >= 1 && inner <= std::numeric_limits<std::int32_t>::max())) fields.refuse(field, "times hidden_size is no count");
  return static_cast<std::size_t>(inner);
}

std::string embedding_of(const checkpoint& tensors) {
  const std::string early = "backbone.embedding.weight";
  return tensors.contains(early) ? early : "backbone.embeddings.weight";
}

void ignore_mamba_training(const config& fields) {
  require_silu(fields);
  fields.require("rms_norm", true);
  fields.require("ssm_cfg", nlohmann::json::object());
  fields.ignore({"residual_in_fp32", "rescale_prenorm_residual", "time_step_min", "time_step_max", "time_step_floor",
                 "fused_add_norm", "pad_vocab_size_multiple", "d_model", "d_inner", "n_layer"});
}

void require_silu(const config& fields) {
  const std::string name = fields.text("hidden_act", "silu");
  if (name != "silu" && name != "swish")
    fields.refuse("hidden_act", "is " + klens::detail::name_text(name) + "; klens carries out 'silu' only");
}

}  // namespace programs
