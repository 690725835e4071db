#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "../attention.hpp"
#include "../common_fields.hpp"
#include "../elementwise.hpp"
#include "../experts.hpp"
#include "../gated_mlp.hpp"
#include "../mamba2.hpp"
#include "../model_types.hpp"

namespace programs {
namespace {

/// A mixture of plain MLPs beside one that always works, as in DeepSeek-V3 (arXiv:2412.19437): sigmoids of the router weight the
/// experts; a correction decides with them who is chosen, among the groups whose two best experts score highest.
struct grouped_experts final : part {
  linear router;                          ///< [experts x width]
  const parameter* correction = nullptr;  ///< [experts]
  std::vector<plain_mlp> each;            ///< over the latent width
  plain_mlp shared;                       ///< over the width
  linear narrow, widen;                   ///< [latent x width], [width x latent]; without weight: the latent width is the width
  std::size_t active = 1, groups = 1, active_groups = 1;
  bool sum_to_one = true;
  float factor = 1;

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override {
    workspace& work = at.work;
    const workspace::frame frame{work};
    panel weights = work.take(x.rows(), static_cast<Eigen::Index>(each.size()));
    router(x, weights);
    kernels::map_elements(
        all_of(weights), [](auto v) { return kernels::sigmoid(v); }, all_of(weights));
    expert_positions positions(each.size());
    for (Eigen::Index t = 0; t < x.rows(); ++t) choose(klens::row(weights, t), t, positions);
    const auto of = [this](std::size_t i) -> const part& { return each[i]; };
    if (narrow.weight == nullptr) {
      add_experts(hidden, x, scale, positions, weights, of, at);
    } else {
      panel latent = work.take(x.rows(), narrow.out()), mixed = work.take(x.rows(), narrow.out());
      narrow(x, latent);
      mixed.setZero();
      add_experts(mixed, latent, 1, positions, weights, of, at);
      widen.add_to(hidden, mixed, scale);
    }
    shared.add_to(hidden, x, scale, at);
  }
  [[nodiscard]] double flops(std::size_t length) const override {
    const double latent = narrow.weight == nullptr ? 0 : narrow.flops(length) + widen.flops(length);
    return router.flops(length) + latent + shared.flops(length) + static_cast<double>(active) * each.front().flops(length);
  }

 private:
  /// Turns the scores of position t into weights, and notes who works on it.
  void choose(std::span<float> scores, Eigen::Index t, expert_positions& positions) const {
    const std::size_t size = scores.size() / groups;
    std::vector<float> wanted(scores.size());
    for (std::size_t i = 0; i < scores.size(); ++i) wanted[i] = scores[i] + correction->values(0, static_cast<Eigen::Index>(i));
    std::vector<float> best(groups);
    for (std::size_t g = 0; g < groups; ++g) {
      std::vector<float> own(wanted.begin() + static_cast<std::ptrdiff_t>(g * size),
                             wanted.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
      std::ranges::sort(own, std::greater<>{});
      best[g] = own[0] + own[1];
    }
    const auto by = [](const std::vector<float>& values) {
      std::vector<std::size_t> order(values.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
      return order;
    };
    const std::vector<std::size_t> order_of_groups = by(best);
    for (std::size_t g = active_groups; g < groups; ++g)
      std::fill_n(wanted.begin() + static_cast<std::ptrdiff_t>(order_of_groups[g] * size), size,
                  -std::numeric_limits<float>::infinity());
    const std::vector<std::size_t> order = by(wanted);
    float sum = 0;
    for (std::size_t i = 0; i < active; ++i) {
      positions[order[i]].push_back(t);
      sum += scores[order[i]];
    }
    for (float& each_score : scores) each_score *= sum_to_one ? factor / (sum + 1e-20f) : factor;
  }
};

struct moe_shape {
  std::size_t width = 0, count = 0, inner = 0, shared_inner = 0, latent = 0;
  bool bias = false;
  activation f = activation::squared_relu;
};

plain_mlp take_plain_mlp(checkpoint& tensors, const std::string& prefix, std::size_t inner, std::size_t width, bool bias,
                         activation f) {
  plain_mlp taken;
  taken.up_proj = take_linear(tensors, prefix + "up_proj", inner, width, bias);
  taken.down_proj = take_linear(tensors, prefix + "down_proj", width, inner, bias);
  taken.f = f;
  return taken;
}

grouped_experts take_experts_of(checkpoint& tensors, const std::string& prefix, const moe_shape& of) {
  grouped_experts taken;
  const std::size_t latent = of.latent > 0 ? of.latent : of.width;
  taken.router = take_linear(tensors, prefix + "gate", of.count, of.width, false);
  taken.correction = tensors.take(prefix + "gate.e_score_correction_bias", {of.count});
  if (of.latent > 0) taken.narrow = take_linear(tensors, prefix + "fc1_latent_proj", latent, of.width, of.bias);
  if (tensors.contains(prefix + "experts.up_proj")) {
    const parameter* const up = tensors.take_stack(prefix + "experts.up_proj", of.count, of.inner, latent);
    const parameter* const down = tensors.take_stack(prefix + "experts.down_proj", of.count, latent, of.inner);
    for (std::size_t i = 0; i < of.count; ++i) {
      plain_mlp& one = taken.each.emplace_back();
      one.up_proj = {up, nullptr, i * of.inner, of.inner};
      one.down_proj = {down, nullptr, i * latent, latent};
      one.f = of.f;
    }
  } else {
    for (std::size_t i = 0; i < of.count; ++i)
      taken.each.push_back(
          take_plain_mlp(tensors, prefix + "experts." + std::to_string(i) + ".", of.inner, latent, false, of.f));
  }
  if (of.latent > 0) taken.widen = take_linear(tensors, prefix + "fc2_latent_proj", of.width, latent, of.bias);
  taken.shared = take_plain_mlp(tensors, prefix + "shared_experts.", of.shared_inner, of.width, of.bias, of.f);
  return taken;
}

/// layers_block_type, or the older hybrid_override_pattern: M, *, - and E for Mamba-2, attention, MLP and experts.
std::vector<std::string> kinds_of(const config& fields) {
  std::vector<std::string> kinds = fields.texts("layers_block_type");
  if (kinds.empty()) {
    for (const char each : fields.text("hybrid_override_pattern", ""))
      kinds.push_back(each == 'M'   ? "linear_attention"
                      : each == '*' ? "full_attention"
                      : each == '-' ? "mlp"
                      : each == 'E' ? "moe"
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
  const moe_shape mixture{.width = width,
                          .count = fields.count("n_routed_experts", 8),
                          .inner = fields.count("moe_intermediate_size", 7688),
                          .shared_inner = fields.count("moe_shared_expert_intermediate_size", 7688),
                          .latent = fields.count_or_zero("moe_latent_size", 0),
                          .bias = mlp_bias,
                          .f = f};
  grouped_experts rules;
  rules.active = fields.count("num_experts_per_tok", 2);
  rules.groups = fields.count("n_group", 1);
  rules.active_groups = fields.count("topk_group", 1);
  rules.sum_to_one = fields.flag("norm_topk_prob", true);
  rules.factor = static_cast<float>(fields.number("routed_scaling_factor", 1));
  const bool has_experts = std::ranges::find(kinds, "moe") != kinds.end();
  if (has_experts && (mixture.count % rules.groups != 0 || mixture.count / rules.groups < 2))
    fields.refuse("n_group", "does not cut n_routed_experts into groups of at least two");
  if (has_experts && rules.active_groups > rules.groups) fields.refuse("topk_group", "is more than n_group");
  if (has_experts && rules.active > rules.active_groups * (mixture.count / rules.groups))
    fields.refuse("num_experts_per_tok", "is more than topk_group groups have");
  fields.ignore({"n_shared_experts", "moe_shared_expert_overlap"});  // one shared MLP, whatever they say

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
      built.steps.push_back(single(before, take_plain_mlp(tensors, own, mlp, width, mlp_bias, f)));
    } else if (kinds[i] == "moe") {
      grouped_experts mixes_experts = take_experts_of(tensors, own, mixture);
      mixes_experts.active = rules.active;
      mixes_experts.groups = rules.groups;
      mixes_experts.active_groups = rules.active_groups;
      mixes_experts.sum_to_one = rules.sum_to_one;
      mixes_experts.factor = rules.factor;
      built.steps.push_back(single(before, std::move(mixes_experts)));
    } else {
      fields.refuse("layers_block_type", "has an entry " + klens::detail::name_text(kinds[i]) + ", which is not carried out");
    }
  }
  tensors.leave_out("mtp.");
  return built;
}

}  // namespace programs
