#pragma once

#include <span>
#include <string>

#include "exporters/exported.hpp"

namespace klens {

/// A Python module with the config that ModelOpt's mtq.quantize takes (JSON has no whole-number keys): everything off, then one
/// entry for the weight quantizer of each layer.
/// Stores     int2 to int8 (absmax) in groups or channels; fp16, bf16 and f32 stay off. ModelOpt keeps scales in float32.
/// Throws     argument_error for any other scheme, and for groups that do not divide the columns.
/// Checked    nvidia-modelopt 0.47.0.
[[nodiscard]] inline exported export_modelopt(std::span<const stored_layer> layers) {
  std::string text =
      "# A klens plan for ModelOpt.\n"
      "PLAN = {\n    \"quant_cfg\": [\n        {\"quantizer_name\": \"*\", \"enable\": False},\n";
  for (const stored_layer& each : layers) {
    const std::string module = module_of("ModelOpt", each);
    if (is_float(each.scheme)) continue;
    const std::optional<scheme_parts> form = parse_integer(each.scheme);
    if (!form || form->grid != grid::absmax)
      throw cannot_store("ModelOpt", each, "its integers are absmax: int4-g128, int8-channel");
    if (form->group_size != 0 && each.columns % form->group_size != 0)
      throw cannot_store("ModelOpt", each, "the groups do not divide its " + std::to_string(each.columns) + " columns");
    text += "        {\"quantizer_name\": \"" + module +
            ".weight_quantizer\", \"cfg\": {\"num_bits\": " + std::to_string(form->bits);
    text += form->group_size ? ", \"block_sizes\": {-1: " + std::to_string(form->group_size) + ", \"type\": \"static\"}"
                             : ", \"axis\": 0";
    text += "}},\n";
  }
  return {text + "    ],\n    \"algorithm\": \"max\",\n}\n", "from MODULE import PLAN; mtq.quantize(model, PLAN)"};
}

}  // namespace klens
