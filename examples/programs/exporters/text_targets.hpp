#pragma once
// All targets whose exporter writes one file of text, by name.

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>

#include "exporters/auto_round.hpp"
#include "exporters/compressed_tensors.hpp"
#include "exporters/exported.hpp"
#include "exporters/llama_quantize.hpp"
#include "exporters/mlx_lm.hpp"
#include "exporters/modelopt.hpp"
#include "exporters/nncf.hpp"
#include "exporters/olive.hpp"

namespace klens {

struct text_target {
  const char* name;
  const char* checked;  ///< what the file is, and which version of the tool read one
  exported (*make)(std::span<const stored_layer> layers, bool tied_head);
  bool of_all_layers = false;  ///< `make` wants layers outside the plan as well, as fp16
};

inline constexpr std::array<text_target, 7> text_targets{
    {{"nncf", "a Python module; nncf 3.4.0 with openvino 2026.4.1", export_nncf},
     {"llama-quantize", "a --tensor-type-file; its source as in llama-cpp-python 0.3.36, not run", export_llama_quantize},
     {"auto-round", "layer_config as JSON; auto-round 0.16.1", export_auto_round},
     {"mlx-lm", "sensitivities as JSON; mlx-lm 0.32.2", export_mlx_lm},
     {"modelopt", "a Python module; nvidia-modelopt 0.47.0",
      [](std::span<const stored_layer> layers, bool) { return export_modelopt(layers); }},
     {"compressed-tensors", "config_groups as JSON, for llm-compressor and vLLM; compressed-tensors 0.20.1",
      export_compressed_tensors},
     {"olive", "a pass's options as JSON; olive-ai 0.13.0", export_olive, true}}};

/// The target of that name, or nullptr.
[[nodiscard]] inline const text_target* find_text_target(std::string_view name) {
  const auto found = std::ranges::find(text_targets, name, [](const text_target& each) { return std::string_view{each.name}; });
  return found == text_targets.end() ? nullptr : &*found;
}

/// Their names: "nncf, llama-quantize, ...".
[[nodiscard]] inline std::string text_target_names() {
  std::string names;
  for (const text_target& each : text_targets) names += (names.empty() ? "" : ", ") + std::string{each.name};
  return names;
}

}  // namespace klens
