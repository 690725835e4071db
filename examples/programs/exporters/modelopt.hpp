#pragma once

#include <span>
#include <string>

#include "exporters/exported.hpp"

namespace klens {

/// A Python module with the config that ModelOpt's mtq.quantize takes (JSON has no whole-number keys): everything off, then one
/// entry for the weight quantizer of each layer.
/// Stores     int2 to int8 (absmax) in groups or channels, fp8-e4m3-channel, mxfp4 (rows of a multiple of 32), nvfp4 (of 16);
///            fp16, bf16 and f32 stay off. ModelOpt keeps scales of rows and of integers in float32.
/// Throws     argument_error for any other scheme, and for groups that do not divide the columns.
/// Checked    nvidia-modelopt 0.47.0.
[[nodiscard]] inline exported export_modelopt(std::span<const stored_layer> layers) {
  std::string text =
      "# A klens plan for ModelOpt.\n"
      "PLAN = {\n    \"quant_cfg\": [\n        {\"quantizer_name\": \"*\", \"enable\": False},\n";
  for (const stored_layer& each : layers) {
    const std::string module = module_of("ModelOpt", each);
    if (is_float(each.scheme)) continue;
    const std::optional<scheme_parts> form = parts_of(each.scheme);
    std::string config, kind = "\"static\"";
    if (each.scheme == "fp8-e4m3-channel")
      config = "(4, 3)";
    else if (each.scheme == "mxfp4")
      config = "(2, 1)", kind = "\"dynamic\", \"scale_bits\": (8, 0)";
    else if (each.scheme == "nvfp4")
      config = "(2, 1)", kind += ", \"scale_bits\": (4, 3)";
    else if (form && form->family == scheme_family::integer && form->grid == grid::absmax)
      config = std::to_string(form->bits);
    else
      throw cannot_store("ModelOpt", each, "it has absmax integers (int4-g128, int8-channel), fp8-e4m3-channel, mxfp4, nvfp4");
    expect_whole_groups("ModelOpt", each, form->group_size);
    text += "        {\"quantizer_name\": \"" + module + ".weight_quantizer\", \"cfg\": {\"num_bits\": " + config;
    text += form->group_size ? ", \"block_sizes\": {-1: " + std::to_string(form->group_size) + ", \"type\": " + kind + "}"
                             : ", \"axis\": 0";
    text += "}},\n";
  }
  return {text + "    ],\n    \"algorithm\": \"max\",\n}\n", "from MODULE import PLAN; mtq.quantize(model, PLAN)"};
}

}  // namespace klens
