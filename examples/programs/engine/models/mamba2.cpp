#include "../mamba2.hpp"

#include <string>

#include "../common_fields.hpp"
#include "../model_types.hpp"

namespace programs {

// Mamba-2 (arXiv:2405.21060): nothing but Mamba-2 mixers, each after a norm.
architecture build_mamba2(const config& fields, checkpoint& tensors) {
  const std::size_t width = fields.count("hidden_size", 4096), vocabulary = fields.count("vocab_size", 32768);
  const std::size_t inner = expanded(fields, "expand", width);
  const double epsilon = fields.number("layer_norm_epsilon", 1e-5);
  const mamba2_shape mixes{.width = width,
                           .inner = inner,
                           .heads = fields.count("num_heads", 128),
                           .groups = fields.count("n_groups", 8),
                           .states = fields.count("state_size", 128),
                           .taps = fields.count("conv_kernel", 4),
                           .conv_bias = fields.flag("use_conv_bias", true),
                           .in_bias = fields.flag("use_bias", false),
                           .out_bias = fields.flag("use_bias", false),
                           .epsilon = epsilon,
                           .step_limits = step_limits_of(fields)};
  check_heads(fields, mixes, "num_heads", fields.count("head_dim", 64), "n_groups");
  ignore_mamba_training(fields);
  fields.require("intermediate_size", inner);
  // transformers gates first whatever norm_before_gate says
  fields.ignore({"norm_before_gate", "time_step_rank", "time_step_scale", "time_step_init_scheme", "chunk_size",
                 "A_initializer_range", "emb_initializer_range"});

  architecture built = take_ends(fields, tensors, embedding_of(tensors), vocabulary, width, false);
  built.final_norm = take_norm(tensors, "backbone.norm_f", width, epsilon);
  for (std::size_t i = 0, layers = fields.count("num_hidden_layers", 64); i < layers; ++i) {
    const std::string prefix = "backbone.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    const rms_norm before = take_norm(tensors, prefix + "norm", width, epsilon);
    built.steps.push_back(single(before, take_mamba2(tensors, prefix + "mixer.", mixes)));
  }
  return built;
}

}  // namespace programs
