#include "plain_decoder.hpp"

#include "common_fields.hpp"

namespace programs {

architecture build_plain_decoder(const config& fields, checkpoint& tensors, const plain_decoder& of) {
  require_silu(fields);
  architecture built = take_ends(fields, tensors, "model.embed_tokens.weight", of.vocabulary, of.width, of.tied_by_default);
  built.final_norm = take_norm(tensors, "model.norm", of.width, of.epsilon);
  for (std::size_t i = 0; i < of.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    tensors.begin_stage();
    const rms_norm before = take_norm(tensors, prefix + "input_layernorm", of.width, of.epsilon);
    attention mixer = take_attention(tensors, prefix + "self_attn.", of.attends);
    of.complete(mixer, i, prefix + "self_attn.");
    built.steps.push_back(single(before, std::move(mixer)));
    tensors.begin_stage();
    built.steps.push_back(single(take_norm(tensors, prefix + "post_attention_layernorm", of.width, of.epsilon),
                                 take_gated_mlp(tensors, prefix + "mlp.", of.width, of.mlp, of.mlp_bias)));
  }
  return built;
}

}  // namespace programs
