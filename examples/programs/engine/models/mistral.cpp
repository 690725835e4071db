#include <string>

#include "../common_fields.hpp"
#include "../model_types.hpp"
#include "../plain_decoder.hpp"
#include "../rope.hpp"

namespace programs {

// Mistral (arXiv:2310.06825): Llama in which every query sees the last sliding_window keys only.
architecture build_mistral(const config& fields, checkpoint& tensors) {
  plain_decoder of{.width = fields.count("hidden_size", 4096),
                   .vocabulary = fields.count("vocab_size", 32000),
                   .layers = fields.count("num_hidden_layers", 32),
                   .mlp = fields.count("intermediate_size", 14336),
                   .epsilon = fields.number("rms_norm_eps", 1e-6)};
  of.attends = attention_of(fields, of.width, 8);
  const rope position(fields, of.attends.head_width, 1, false);
  const attention_mask mask{.window = fields.is_null("sliding_window") ? 0 : fields.count("sliding_window", 4096)};
  of.complete = [&](attention& mixer, std::size_t, const std::string&) {
    mixer.position = position;
    mixer.mask = mask;
  };
  return build_plain_decoder(fields, tensors, of);
}

}  // namespace programs
