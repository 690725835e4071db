#include <string>

#include "../common_fields.hpp"
#include "../model_types.hpp"
#include "../plain_decoder.hpp"
#include "../rope.hpp"

namespace programs {

// Llama (arXiv:2302.13971, 2307.09288, 2407.21783): attention with rotary positions and a gated MLP by turns.
architecture build_llama(const config& fields, checkpoint& tensors) {
  plain_decoder of{.width = fields.count("hidden_size", 4096),
                   .vocabulary = fields.count("vocab_size", 32000),
                   .layers = fields.count("num_hidden_layers", 32),
                   .mlp = fields.count("intermediate_size", 11008),
                   .epsilon = fields.number("rms_norm_eps", 1e-6)};
  of.attends = attention_of(fields, of.width, 0);
  of.attends.bias = of.attends.output_bias = fields.flag("attention_bias", false);
  of.mlp_bias = fields.flag("mlp_bias", false);
  const rope position(fields, of.attends.head_width, 1, false);
  fields.ignore({"pretraining_tp", "max_window_layers"});
  of.complete = [&](attention& mixer, std::size_t, const std::string&) { mixer.position = position; };
  return build_plain_decoder(fields, tensors, of);
}

}  // namespace programs
