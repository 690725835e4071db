#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "exporters/exported.hpp"

namespace klens {

/// AutoRound's layer_config as JSON: module name -> bits, group_size, sym. With iters=0 it rounds to nearest on grids of
/// the plan's kind; with more it tunes the rounding.
/// Stores     int2 to int8 signed, int2 to int7 asym, in groups or channels, where rows and columns are multiples of 32
///            (it leaves other layers in 16 bits), but no head tied to the embedding; fp16 and bf16 as 16 bits. Its mxfp4 and
///            nvfp4 store activations in 4 bits, too: they are no schemes of weights.
/// Throws     argument_error for any other scheme or shape.
/// Checked    auto-round 0.16.1.
[[nodiscard]] inline exported export_auto_round(std::span<const stored_layer> layers, bool tied_head) {
  nlohmann::ordered_json config = nlohmann::ordered_json::object();
  for (const stored_layer& each : layers) {
    const std::string module = module_of("AutoRound", each);
    if (is_half(each.scheme)) {
      config[module] = {{"bits", 16}};
      continue;
    }
    const std::optional<scheme_parts> form = parse_integer(each.scheme);
    if (!form || form->scale == scale_kind::f32 || form->grid == grid::absmax || (form->bits == 8 && form->grid == grid::asym))
      throw cannot_store("AutoRound", each, "it has signed integers of 2 to 8 bits and asym ones of 2 to 7, with fp16 scales");
    if (tied_head && module == "lm_head")
      throw cannot_store("AutoRound", each, "it does not quantize a head tied to the embedding");
    if (each.rows % 32 != 0 || each.columns % 32 != 0)
      throw cannot_store("AutoRound", each, "it leaves layers in 16 bits unless rows and columns are multiples of 32");
    config[module] = {{"bits", form->bits},
                      {"group_size", form->group_size ? static_cast<std::int64_t>(form->group_size) : -1},
                      {"sym", form->grid == grid::signed_},
                      {"data_type", "int"}};
  }
  return {config.dump(1) + "\n", "AutoRound(model, tokenizer, iters=0, layer_config=json.load(open(\"FILE\")))"};
}

}  // namespace klens
