#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "exporters/exported.hpp"

namespace klens {

/// The JSON that mlx_lm.dynamic_quant takes as --sensitivities: [module, 0 or 1] for each layer, 1 for those of the plan's
/// finer scheme. The tool gives its --high-bits to sensitivities above a threshold that it searches between them, so every
/// --target-bpw leads to the plan. It quantizes all layers and stops at one that is not in the file: the plan must hold the
/// embedding too (with `tied_head` it is lm_head).
/// Stores     two schemes of the form int{2,3,4,5,6,8}-asym-g{32,64,128}, whose groups divide the columns; MLX computes its own
///            scales and offsets.
/// Throws     argument_error for any other scheme, and for more than two.
/// Checked    mlx-lm 0.32.2 with mlx 0.32.4.
[[nodiscard]] inline exported export_mlx_lm(std::span<const stored_layer> layers, bool tied_head) {
  std::vector<std::pair<scheme_parts, std::string>> schemes;  // coarse before fine
  for (const stored_layer& each : layers) {
    const std::optional<scheme_parts> form = parse_integer(each.scheme);
    if (!form || form->scale == scale_kind::f32 || form->grid != grid::asym || form->bits == 7 ||
        (form->group_size != 32 && form->group_size != 64 && form->group_size != 128))
      throw cannot_store("mlx-lm", each, "--sensitivities has int2, 3, 4, 5, 6 and 8, asym, in groups of 32, 64 or 128");
    if (std::ranges::find(schemes, each.scheme, &std::pair<scheme_parts, std::string>::second) != schemes.end()) continue;
    if (schemes.size() == 2)
      throw cannot_store("mlx-lm", each, "--sensitivities chooses between two schemes, this is the third");
    schemes.emplace_back(*form, each.scheme);
  }
  if (schemes.empty()) throw argument_error{"mlx-lm: the plan has no layers; give it all layers of the model"};
  std::ranges::stable_sort(schemes, [](const auto& a, const auto& b) {
    return a.first.bits != b.first.bits ? a.first.bits < b.first.bits : a.first.group_size > b.first.group_size;
  });
  const auto& [low, low_name] = schemes.front();
  const auto& [high, high_name] = schemes.back();
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const stored_layer& each : layers) {
    const std::string module = module_of("mlx-lm", each);
    if (each.columns % low.group_size != 0 || each.columns % high.group_size != 0)
      throw cannot_store("mlx-lm", each, "groups do not divide its " + std::to_string(each.columns) + " columns");
    list.push_back({tied_head && module == "lm_head" ? "model.embed_tokens" : module, each.scheme == low_name ? 0.0 : 1.0});
  }
  const auto flags = [](const std::string& side, const scheme_parts& form) {
    return " --" + side + "-bits " + std::to_string(form.bits) + " --" + side + "-group-size " +
           std::to_string(form.group_size);
  };
  return {list.dump() + "\n",
          "mlx_lm.dynamic_quant --model MODEL --sensitivities FILE" + flags("low", low) + flags("high", high)};
}

}  // namespace klens
