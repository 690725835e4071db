#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../gated_mlp.hpp"
#include "../mamba.hpp"
#include "../model_types.hpp"
#include "../past.hpp"
#include "../rope.hpp"
#include "../rounding.hpp"

namespace programs {
namespace {

/// Attention and a Mamba mixer side by side on one projection, and the mean of their norms. A layer may use the keys and values
/// of an earlier one: `reused` is the place where the producer leaves them and its consumers find them.
struct hymba_mixer final : part {
  linear q, k, v, u, gate;  ///< rows of one weight; consumers have no k and v
  mamba mixer;              ///< without in_proj and out_proj
  linear out_proj;          ///< [width x inner]
  rms_norm q_norm, k_norm, attention_norm, mamba_norm;
  std::optional<rope> position;
  std::optional<std::size_t> reused;  ///< keys there, values in the next place; none: nobody else uses them
  std::size_t heads = 1, kv_heads = 1;
  attention_mask mask;

  [[nodiscard]] bool consumes() const noexcept { return k.weight == nullptr; }

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override {
    workspace& work = at.work;
    const workspace::frame frame{work};
    panel attended = work.take(x.rows(), out_proj.in()), mixed = work.take(x.rows(), out_proj.in());
    attend_to(x, attended, at);
    attention_norm(attended, attended);
    mix(x, mixed, at);
    mamba_norm(mixed, mixed);
    kernels::map_elements(
        all_of(mixed), [](auto a, auto b) { return (a + b) * 0.5f; }, all_of(mixed), all_of(attended));
    out_proj.add_to(hidden, mixed, scale);
  }
  [[nodiscard]] double flops(std::size_t length) const override {
    double total = q.flops(length) + u.flops(length) + gate.flops(length) + out_proj.flops(length) +
                   mixer.x_proj.flops(length) + mixer.dt_proj.flops(length) +
                   attend_flops(length, static_cast<std::size_t>(q.out()), static_cast<std::size_t>(out_proj.in()), mask);
    if (!consumes()) total += k.flops(length) + v.flops(length);
    return total;
  }
  /// The mixer's, and keys and values unless they are another layer's.
  [[nodiscard]] std::vector<kept_vectors> kept() const override {
    std::vector<kept_vectors> all = mixer.kept();
    if (!consumes())
      add_keys_and_values(all, this, prefix_of(k.weight->name, "in_proj"), kv_heads, static_cast<std::size_t>(k.out()),
                          static_cast<std::size_t>(v.out()), mask);
    if (reused)
      for (kept_vectors& each : all)
        if (each.kind == klens::site_kind::kv) each.read_with = q.weight;
    return all;
  }

 private:
  void attend_to(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> out, pass& at) const {
    workspace& work = at.work;
    const workspace::frame frame{work};
    const auto grouped = static_cast<Eigen::Index>(heads / kv_heads);
    panel queries = work.take(x.rows(), q.out()), keys = work.take(x.rows(), q.out() / grouped),
          values = work.take(x.rows(), out.cols() / grouped);
    q(x, queries);
    if (q_norm) q_norm.of_heads(queries);
    const std::size_t first = first_position(at, this, kept_as::keys, keys);
    if (position) position->apply(queries, first);
    if (consumes()) {
      keys = at.kept[*reused];
      values = at.kept[*reused + 1];
    } else {
      k(x, keys);
      if (k_norm) k_norm.of_heads(keys);
      if (position) position->apply(keys, first);
      v(x, values);
    }
    const double width = static_cast<double>(q.out()) / static_cast<double>(heads);
    attend_to_kept(queries, keys, values, heads, kv_heads, static_cast<float>(1 / std::sqrt(width)), mask, out, at, this);
    if (reused && !consumes()) {
      at.kept[*reused] = keys;  // as they are stored
      at.kept[*reused + 1] = values;
    }
  }

  void mix(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> out, const pass& at) const {
    workspace& work = at.work;
    const workspace::frame frame{work};
    panel input = work.take(x.rows(), u.out()), gates = work.take(x.rows(), u.out());
    u(x, input);
    gate(x, gates);
    mixer.scan(input, gates, out, at);
  }
};

struct hymba_shape {
  std::size_t width = 0, mlp = 0;
  double epsilon = 0;
  attention_shape attends{};
  mamba_shape mixes{};
  bool head_norms = false;
  std::optional<rope> position{};
  std::size_t window = 0, memory = 0;
};

/// For each layer the layer whose keys and values it uses; itself where it has its own.
std::vector<std::size_t> producers_of(const config& fields, std::size_t layers) {
  std::vector<std::size_t> producers(layers);
  for (std::size_t i = 0; i < layers; ++i) producers[i] = i;
  if (fields.has("kv_reuse_every_i_layer") && fields.number("kv_reuse_every_i_layer", -1) != -1) {
    const std::size_t every = fields.count("kv_reuse_every_i_layer");
    for (std::size_t i = 0; i < layers; ++i) producers[i] = i / every * every;
    return producers;
  }
  for (const std::vector<double>& group : fields.lists("kv_reuse_group"))
    for (const double each : group) {
      if (!(each >= 0 && each < static_cast<double>(layers) && each == std::floor(each) && group.front() <= each))
        fields.refuse("kv_reuse_group", "has a group that is no list of layers, the producer first");
      producers[static_cast<std::size_t>(each)] = static_cast<std::size_t>(group.front());
    }
  for (std::size_t i = 0; i < layers; ++i)
    if (producers[producers[i]] != producers[i]) fields.refuse("kv_reuse_group", "has a producer that is a consumer elsewhere");
  return producers;
}

hymba_mixer take_hymba_mixer(checkpoint& tensors, const std::string& prefix, const hymba_shape& of, bool consumes) {
  hymba_mixer taken;
  const attention_shape& a = of.attends;
  const std::size_t inner = of.mixes.inner, key_rows = a.kv_heads * a.head_width, value_rows = inner / a.heads * a.kv_heads;
  std::vector<row_range> parts{{"q", 0, of.width}};
  const auto append = [&](const char* name, std::size_t rows) {
    parts.push_back({name, parts.back().first + parts.back().rows, rows});
  };
  if (!consumes) {
    append("k", key_rows);
    append("v", value_rows);
  }
  append("x", inner);
  append("z", inner);
  const linear fused =
      take_linear(tensors, prefix + "in_proj", parts.back().first + inner, of.width, of.mixes.proj_bias, parts);
  const auto rows_of = [&](std::size_t part) {
    linear some = fused;
    some.first = parts[part].first;
    some.rows = parts[part].rows;
    return some;
  };
  taken.q = rows_of(0);
  if (!consumes) {
    taken.k = rows_of(1);
    taken.v = rows_of(2);
  }
  taken.u = rows_of(parts.size() - 2);
  taken.gate = rows_of(parts.size() - 1);
  taken.out_proj = take_linear(tensors, prefix + "out_proj", of.width, inner, of.mixes.proj_bias);
  taken.mixer = take_mamba_core(tensors, prefix, of.mixes, ".0");
  taken.mixer.step_norm = take_norm(tensors, prefix + "dt_layernorm", of.mixes.rank, of.epsilon);
  taken.mixer.b_norm = take_norm(tensors, prefix + "B_layernorm", of.mixes.states, of.epsilon);
  taken.mixer.c_norm = take_norm(tensors, prefix + "C_layernorm", of.mixes.states, of.epsilon);
  taken.attention_norm = take_norm(tensors, prefix + "pre_avg_layernorm1", inner, of.epsilon);
  taken.mamba_norm = take_norm(tensors, prefix + "pre_avg_layernorm2", inner, of.epsilon);
  if (of.head_norms) {
    taken.q_norm = take_norm(tensors, prefix + "self_attn.q_norm", a.head_width, 1e-6);
    if (consumes)
      tensors.skip(prefix + "self_attn.k_norm.weight");
    else
      taken.k_norm = take_norm(tensors, prefix + "self_attn.k_norm", a.head_width, 1e-6);
  }
  taken.position = of.position;
  taken.heads = a.heads;
  taken.kv_heads = a.kv_heads;
  return taken;
}

std::optional<rope> position_of(const config& fields, std::size_t head_width) {
  if (!fields.flag("rope", false)) return std::nullopt;
  const std::string type = fields.text("rope_type", "default");
  double theta = fields.number("rope_theta", 10000);
  const std::size_t context = fields.count("max_position_embeddings", 8192),
                    trained = fields.count("orig_max_position_embeddings", 2048);
  if (type == "ntk") {
    const double stretch = 2 * static_cast<double>(context) / static_cast<double>(trained) - 1;
    if (head_width <= 2 || !(stretch > 0)) fields.refuse("rope_type", "is 'ntk', which does not fit these heads and contexts");
    theta *= std::pow(stretch, static_cast<double>(head_width) / static_cast<double>(head_width - 2));
  } else if (type != "default") {
    fields.refuse("rope_type", "is " + klens::detail::name_text(type) + "; klens carries out default and ntk");
  }
  return rope(fields.empty_object("rope_parameters"), head_width, {.theta = theta, .context = static_cast<double>(context)});
}

}  // namespace

// Hymba (arXiv:2411.13676): attention and Mamba side by side in every layer, memory tokens before every sequence, windows in most
// layers, keys and values that later layers use again.
architecture build_hymba(const config& fields, checkpoint& tensors) {
  hymba_shape of{.width = fields.count("hidden_size", 1600),
                 .mlp = fields.count("intermediate_size", 5504),
                 .epsilon = fields.number("rms_norm_eps", 1e-6)};
  const std::size_t layers = fields.count("num_hidden_layers", 32), vocabulary = fields.count("vocab_size", 32001);
  const std::size_t inner = expanded(fields, "mamba_expand", of.width);
  of.attends = {.width = of.width, .heads = fields.count("num_attention_heads", 25)};
  of.attends.kv_heads = fields.count("num_key_value_heads", of.attends.heads);
  if (of.width % of.attends.heads != 0) fields.refuse("num_attention_heads", "does not divide hidden_size");
  if (inner % of.attends.heads != 0) fields.refuse("num_attention_heads", "does not divide mamba_expand times hidden_size");
  if (of.attends.heads % of.attends.kv_heads != 0) fields.refuse("num_key_value_heads", "does not divide num_attention_heads");
  of.attends.head_width = of.width / of.attends.heads;
  of.mixes = {.width = of.width,
              .inner = inner,
              .states = fields.count("mamba_d_state", 16),
              .rank = rank_of(fields, "mamba_dt_rank", of.width),
              .taps = fields.count("mamba_d_conv", 4),
              .conv_bias = fields.flag("mamba_conv_bias", true),
              .proj_bias = fields.flag("mamba_proj_bias", false)};
  const std::string norms = fields.text("kq_norm", "none");
  if (norms != "none" && norms != "rms")
    fields.refuse("kq_norm", "is " + klens::detail::name_text(norms) + "; klens carries out none and rms");
  of.head_norms = norms == "rms";
  of.position = position_of(fields, of.attends.head_width);
  of.memory = fields.count_or_zero("num_memory_tokens", 0);
  of.window = fields.has("sliding_window") ? fields.count("sliding_window") + 1 : 0;  // a query sees one key more than it says
  const std::vector<double> global = fields.numbers("global_attn_idx", {});
  const std::vector<std::size_t> producers = producers_of(fields, layers);
  const activation f = activation_of(fields, "mlp_hidden_act", "silu");
  require_silu(fields);
  fields.require("mamba_inner_layernorms", true);
  fields.require("memory_tokens_interspersed_every", 0);
  fields.require("attn_hidden_size", -1);
  fields.require("kq_head_dim", -1);
  fields.require("attn_implementation_new", "flex");
  fields.ignore({"num_experts", "num_experts_per_tok", "num_mamba", "use_mamba_kernels", "kv_weight_reuse", "conv_dim",
                 "layer_type", "v_head_dim", "seq_length", "output_router_logits", "router_aux_loss_coef",
                 "kv_reuse_every_i_layer", "orig_max_position_embeddings", "kv_reuse_group"});

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, of.width, true);
  built.final_norm = take_norm(tensors, "model.final_layernorm", of.width, of.epsilon);
  if (of.memory > 0) built.memory = tensors.take("model.memory_tokens", {of.memory, of.width});
  std::vector<std::optional<std::size_t>> places(layers);
  for (std::size_t i = 0; i < layers; ++i) {
    if (producers[i] == i || places[producers[i]]) continue;
    places[producers[i]] = built.kept.size();
    built.kept.push_back(of.attends.kv_heads * of.attends.head_width);
    built.kept.push_back(of.mixes.inner / of.attends.heads * of.attends.kv_heads);
  }
  std::vector<const parameter*> projections(layers);
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    const rms_norm before = take_norm(tensors, prefix + "input_layernorm", of.width, of.epsilon);
    hymba_mixer mixer = take_hymba_mixer(tensors, prefix + "mamba.", of, producers[i] != i);
    mixer.reused = places[producers[i]];
    if (producers[i] == i)
      projections[i] = mixer.q.weight;
    else  // its keys and values reach this layer past the residual stream
      built.last_uses.emplace_back(projections[producers[i]], built.steps.size() + 1);
    if (std::ranges::find(global, static_cast<double>(i)) == global.end())
      mixer.mask = {.window = of.window, .always = of.memory};
    built.steps.push_back(single(before, std::move(mixer)));
    tensors.begin_stage();
    built.steps.push_back(single(take_norm(tensors, prefix + "pre_moe_layernorm", of.width, of.epsilon),
                                 take_gated_mlp(tensors, prefix + "moe.experts.0.", of.width, of.mlp, false, f)));
  }
  return built;
}

}  // namespace programs
