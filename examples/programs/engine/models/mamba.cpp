#include "../mamba.hpp"

#include <string>

#include "../common_fields.hpp"
#include "../model_types.hpp"

namespace programs {
namespace {

// Nothing but Mamba mixers, each after a norm; `inner` are those of step, B and C.
architecture build(const config& fields, checkpoint& tensors, const rms_norm& inner) {
  const std::size_t width = fields.count("hidden_size", 768), vocabulary = fields.count("vocab_size", 50280);
  const double epsilon = fields.number("layer_norm_epsilon", 1e-5);
  const mamba_shape mixes{.width = width,
                          .inner = fields.count("intermediate_size", expanded(fields, "expand", width)),
                          .states = fields.count("state_size", 16),
                          .rank = rank_of(fields, "time_step_rank", width),
                          .taps = fields.count("conv_kernel", 4),
                          .conv_bias = fields.flag("use_conv_bias", true),
                          .proj_bias = fields.flag("use_bias", false)};
  ignore_mamba_training(fields);
  fields.ignore({"time_step_scale", "time_step_init_scheme", "use_mambapy", "use_associative_scan"});

  architecture built = take_ends(fields, tensors, embedding_of(tensors), vocabulary, width, true);
  built.final_norm = take_norm(tensors, "backbone.norm_f", width, epsilon);
  for (std::size_t i = 0, layers = fields.count("num_hidden_layers", 32); i < layers; ++i) {
    const std::string prefix = "backbone.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    const rms_norm before = take_norm(tensors, prefix + "norm", width, epsilon);
    mamba mixer = take_mamba(tensors, prefix + "mixer.", mixes);
    mixer.step_norm = mixer.b_norm = mixer.c_norm = inner;
    built.steps.push_back(single(before, std::move(mixer)));
  }
  return built;
}

}  // namespace

// Mamba (arXiv:2312.00752).
architecture build_mamba(const config& fields, checkpoint& tensors) { return build(fields, tensors, {}); }

// Falcon Mamba (arXiv:2410.05355): with norms, without weights, of step, B and C.
architecture build_falcon_mamba(const config& fields, checkpoint& tensors) {
  fields.ignore({"use_falcon_mambapy"});
  return build(fields, tensors, {.epsilon = fields.number("mixer_rms_eps", 1e-6), .plain = true});
}

}  // namespace programs
