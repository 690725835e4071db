#include <string>

#include "../common_fields.hpp"
#include "../model_types.hpp"
#include "../plain_decoder.hpp"
#include "../rope.hpp"

namespace programs {

// SmolLM3: Llama in which some layers, every fourth by default, know no positions.
architecture build_smollm3(const config& fields, checkpoint& tensors) {
  plain_decoder of{.width = fields.count("hidden_size", 2048),
                   .vocabulary = fields.count("vocab_size", 128256),
                   .layers = fields.count("num_hidden_layers", 36),
                   .mlp = fields.count("intermediate_size", 11008),
                   .epsilon = fields.number("rms_norm_eps", 1e-6)};
  of.attends = attention_of(fields, of.width, 4);
  of.attends.bias = of.attends.output_bias = fields.flag("attention_bias", false);
  of.mlp_bias = fields.flag("mlp_bias", false);
  of.tied_by_default = true;
  const rope position(fields, of.attends.head_width, 1, false, 2e6);
  const std::size_t interval = fields.count("no_rope_layer_interval", 4);
  std::vector<double> turned = fields.numbers("no_rope_layers", {});
  if (!turned.empty() && turned.size() < of.layers) fields.refuse("no_rope_layers", "has not an entry for each layer");
  for (std::size_t i = turned.size(); i < of.layers; ++i) turned.push_back((i + 1) % interval != 0);
  const bool slides = fields.flag("use_sliding_window", false) && fields.has("sliding_window");
  std::vector<std::string> kinds = layer_kinds(fields, of.layers);
  for (std::size_t i = kinds.size(); i < of.layers; ++i)
    kinds.push_back(slides && turned[i] == 0 ? "sliding_attention" : "full_attention");
  const std::vector<attention_mask> masks = windows_of(fields, kinds);
  fields.ignore({"pretraining_tp", "max_window_layers"});
  of.complete = [&](attention& mixer, std::size_t layer, const std::string&) {
    if (turned[layer] != 0) mixer.position = position;
    mixer.mask = masks[layer];
  };
  return build_plain_decoder(fields, tensors, of);
}

}  // namespace programs
