#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../gated_mlp.hpp"
#include "../mamba2.hpp"
#include "../model_types.hpp"
#include "../past.hpp"
#include "../rope.hpp"
#include "../rounding.hpp"

namespace programs {
namespace {

/// up(down(x)) of low rank, beside a shared projection.
struct adapter {
  linear down;  ///< [rank x in]; without weight: none
  linear up;    ///< [out x rank]

  void add_to(klens::matrix_ref<float> y, const klens::const_matrix_ref<float>& x, workspace& work) const {
    if (down.weight == nullptr) return;
    const workspace::frame frame{work};
    panel narrow = work.take(x.rows(), down.out());
    down(x, narrow);
    up.add_to(y, narrow, 1);
  }
  [[nodiscard]] double flops(std::size_t length) const {
    return down.weight == nullptr ? 0 : down.flops(length) + up.flops(length);
  }
};

/// Attention and MLP that several layers share.
struct shared_block {
  rms_norm input_norm, mlp_norm;  ///< [2 width], [width]
  attention attends;              ///< over [2 width]: the residual stream beside the embedding
  linear gate_up, down;           ///< [2 inner x width], [width x inner]
  activation f = activation::gelu;
};

/// A Mamba-2 mixer that reads the residual stream plus what the shared block makes of it:
///   part(x) = mamba2(norm(x + linear(block([x, embedding])))).
struct hybrid_mixer final : part {
  shared_block block;
  adapter q, k, v, gate_up;  ///< this layer's own
  linear own;                ///< [width x width]
  rms_norm norm;
  mamba2 mixer;

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override {
    workspace& work = at.work;
    const workspace::frame frame{work};
    const Eigen::Index length = x.rows(), width = x.cols();
    panel both = work.take(length, 2 * width), attended = work.take(length, width), input = work.take(length, width);
    both.leftCols(width) = x;
    both.rightCols(width) = at.kept.front();
    block.input_norm(both, both);
    attended.setZero();
    attend_to(both, attended, at);
    block.mlp_norm(attended, attended);

    panel gates = work.take(length, block.gate_up.out()), inner = work.take(length, block.down.in());
    block.gate_up(attended, gates);
    gate_up.add_to(gates, attended, work);
    const Eigen::Index columns = inner.cols();
    for (Eigen::Index t = 0; t < length; ++t) {
      inner.row(t) = gates.row(t).head(columns);
      activate(block.f, klens::row(inner, t), klens::row(gates.rightCols(columns), t));
    }
    block.down(inner, attended);
    own(attended, input);
    input += x;
    norm(input, input);
    mixer.add_to(hidden, input, scale, at);
  }
  [[nodiscard]] double flops(std::size_t length) const override {
    const attention& a = block.attends;
    return a.flops(length) + q.flops(length) + k.flops(length) + v.flops(length) + gate_up.flops(length) +
           block.gate_up.flops(length) + block.down.flops(length) + own.flops(length) + mixer.flops(length);
  }
  /// Each layer that uses the shared block has keys and values of its own.
  [[nodiscard]] std::vector<kept_vectors> kept() const override {
    std::vector<kept_vectors> all = mixer.kept();
    const attention& a = block.attends;
    add_keys_and_values(all, this, prefix_of(own.weight->name, "linear") + "self_attn.", a.kv_heads,
                        static_cast<std::size_t>(a.k_proj.out()), static_cast<std::size_t>(a.v_proj.out()), a.mask);
    return all;
  }

 private:
  void attend_to(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> out, const pass& at) const {
    workspace& work = at.work;
    const attention& a = block.attends;
    const workspace::frame frame{work};
    panel queries = work.take(x.rows(), a.q_proj.out()), keys = work.take(x.rows(), a.k_proj.out());
    panel values = work.take(x.rows(), a.v_proj.out()), mixed = work.take(x.rows(), a.o_proj.in());
    a.q_proj(x, queries);
    a.k_proj(x, keys);
    a.v_proj(x, values);
    q.add_to(queries, x, work);
    k.add_to(keys, x, work);
    v.add_to(values, x, work);
    if (a.position) {
      const std::size_t first = first_position(at, this, kept_as::keys, keys);
      a.position->apply(queries, first);
      a.position->apply(keys, first);
    }
    attend_to_kept(queries, keys, values, a.heads, a.kv_heads, a.score_scale, a.mask, mixed, at, this);
    a.o_proj.add_to(out, mixed, 1);
  }
};

struct zamba2_shape {
  std::size_t width = 0, mlp = 0, rank = 0;
  double epsilon = 0;
  attention_shape attends{};
  mamba2_shape mixes{};
  activation f = activation::gelu;
  bool attention_adapters = false;
  std::optional<rope> position{};
};

shared_block take_block(checkpoint& tensors, const std::string& prefix, const zamba2_shape& of) {
  shared_block taken;
  taken.input_norm = take_norm(tensors, prefix + "input_layernorm", 2 * of.width, of.epsilon);
  taken.attends = take_attention(tensors, prefix + "self_attn.", of.attends);
  // the output is as wide as the residual stream, the input twice as wide
  taken.attends.score_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(of.attends.head_width) / 2));
  taken.attends.position = of.position;
  taken.mlp_norm = take_norm(tensors, prefix + "pre_ff_layernorm", of.width, of.epsilon);
  taken.gate_up = take_linear(tensors, prefix + "feed_forward.gate_up_proj", 2 * of.mlp, of.width, false,
                              {{"gate", 0, of.mlp}, {"up", of.mlp, of.mlp}});
  taken.down = take_linear(tensors, prefix + "feed_forward.down_proj", of.width, of.mlp, false);
  taken.f = of.f;
  return taken;
}

adapter take_adapter(checkpoint& tensors, const std::string& prefix, std::size_t out, std::size_t in, std::size_t rank) {
  return {take_linear(tensors, prefix + ".0", rank, in, false), take_linear(tensors, prefix + ".1", out, rank, false)};
}

}  // namespace

// Zamba2 (arXiv:2411.15242): Mamba-2 mixers; in some layers one of a few shared blocks of attention and MLP, with adapters of
// the layer's own, adds to what the mixer reads.
architecture build_zamba2(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 2560), vocabulary = fields.count("vocab_size", 32000);
  const std::size_t layers = fields.count("num_hidden_layers", 54), blocks = fields.count("num_mem_blocks", 1);
  zamba2_shape of{.width = width,
                  .mlp = fields.count("intermediate_size", 4 * width),
                  .rank = fields.count("adapter_rank", 128),
                  .epsilon = fields.number("rms_norm_eps", 1e-5)};
  of.attends = {.width = 2 * width, .output_width = width, .heads = fields.count("num_attention_heads", 32)};
  of.attends.kv_heads = fields.count("num_key_value_heads", of.attends.heads);
  of.attends.head_width = fields.count("attention_head_dim", std::max<std::size_t>(1, 2 * width / of.attends.heads));
  if (of.attends.heads % of.attends.kv_heads != 0) fields.refuse("num_key_value_heads", "does not divide num_attention_heads");
  fields.require("attention_hidden_size", 2 * width);
  of.f = activation_of(fields, "hidden_act", "gelu");
  of.attention_adapters = fields.flag("use_shared_attention_adapter", false);
  if (fields.flag("use_mem_rope", false)) of.position.emplace(fields, of.attends.head_width, 1, false);
  const std::size_t inner = expanded(fields, "mamba_expand", width), heads = fields.count("n_mamba_heads", 8);
  const bool bias = fields.flag("add_bias_linear", false);
  if (bias) fields.refuse("add_bias_linear", "is true, which klens does not carry out");
  of.mixes = {
      .width = width,
      .inner = inner,
      .heads = heads,
      .groups = fields.count("mamba_ngroups", 1),
      .states = fields.count("mamba_d_state", 64),
      .taps = fields.count("mamba_d_conv", 4),
      .conv_bias = fields.flag("use_conv_bias", true),
      .epsilon = 1e-5,
      .step_limits = {static_cast<float>(fields.number("time_step_min", 0.001)), std::numeric_limits<float>::infinity()}};
  check_heads(fields, of.mixes, "n_mamba_heads", fields.count("mamba_headdim", inner / heads), "mamba_ngroups");
  std::vector<std::string> kinds = layer_kinds(fields, layers, "layers_block_type");
  if (kinds.empty()) {
    kinds.assign(layers, "linear_attention");
    for (const double each : fields.numbers("hybrid_layer_ids", {}))
      if (each >= 0 && each < static_cast<double>(layers)) kinds[static_cast<std::size_t>(each)] = "hybrid";
    if (!fields.has("hybrid_layer_ids")) fields.refuse("layers_block_type", "is missing; add it");
  }
  fields.require("use_long_context", false);
  fields.ignore({"hybrid_layer_ids", "chunk_size", "kv_channels", "num_query_groups", "use_mem_eff_path", "use_mamba_kernels",
                 "time_step_max", "time_step_floor", "rope_theta", "rope_parameters", "rope_scaling", "time_step_limit",
                 "mamba_dt_rank", "num_query_groups", "rope_scaling", "use_conv_bias", "ffn_hidden_size"});

  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", vocabulary, width, true);
  built.keeps_embedding = true;
  built.kept = {width};
  built.final_norm = take_norm(tensors, "model.final_layernorm", width, of.epsilon);
  std::vector<shared_block> shared;
  std::vector<std::string> holders;
  std::size_t hybrids = 0;
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    if (kinds[i] == "linear_attention") {
      const rms_norm before = take_norm(tensors, prefix + "input_layernorm", width, of.epsilon);
      built.steps.push_back(single(before, take_mamba2(tensors, prefix + "mamba.", of.mixes)));
      continue;
    }
    if (kinds[i] != "hybrid")
      fields.refuse("layers_block_type", "has an entry " + klens::detail::name_text(kinds[i]) + ", which is not carried out");
    const std::size_t use = hybrids++, block = use % blocks;
    if (shared.size() == block) {
      shared.push_back(take_block(tensors, prefix + "shared_transformer.", of));
      holders.push_back(prefix + "shared_transformer.");
    }
    hybrid_mixer mixer;
    mixer.block = shared[block];
    const shared_block& again = shared[block];
    for (const parameter* const each :
         {again.input_norm.weight, again.mlp_norm.weight, again.attends.q_proj.weight, again.attends.k_proj.weight,
          again.attends.v_proj.weight, again.attends.o_proj.weight, again.gate_up.weight, again.down.weight,
          static_cast<const parameter*>(built.embedding)})
      built.last_uses.emplace_back(each, built.steps.size() + 1);
    const std::string own = "_adapter_list." + std::to_string(use);
    const std::size_t queries = of.attends.heads * of.attends.head_width, keys = of.attends.kv_heads * of.attends.head_width;
    if (of.attention_adapters) {
      const auto take = [&](const char* name, std::size_t out) {
        return take_adapter(tensors, holders[block] + "self_attn.linear_" + name + own, out, 2 * width, of.rank);
      };
      mixer.q = take("q", queries);
      mixer.k = take("k", keys);
      mixer.v = take("v", keys);
    }
    mixer.gate_up = take_adapter(tensors, holders[block] + "feed_forward.gate_up_proj" + own, 2 * of.mlp, width, of.rank);
    mixer.own = take_linear(tensors, prefix + "linear", width, width, false);
    mixer.norm = take_norm(tensors, prefix + "mamba_decoder.input_layernorm", width, of.epsilon);
    mixer.mixer = take_mamba2(tensors, prefix + "mamba_decoder.mamba.", of.mixes);
    built.steps.push_back(single(rms_norm{}, std::move(mixer)));
  }
  return built;
}

}  // namespace programs
