#pragma once

#include <string>
#include <vector>

#include "architecture.hpp"
#include "checkpoint.hpp"
#include "config.hpp"

// One function a model type, each in its file under models/: reads every field of the config that it knows, takes its tensors
// and arranges the parts. A further model type is one more file and one more line here and in model_types.cpp.

namespace programs {

using build_function = architecture(const config&, checkpoint&);
build_function build_bamba, build_falcon_h1, build_falcon_mamba, build_gemma3, build_granitemoehybrid, build_hymba, build_jamba,
    build_lfm2, build_llama, build_mamba, build_mamba2, build_mambavision, build_mistral, build_nemotron_h, build_olmo_hybrid,
    build_qwen2, build_qwen3, build_qwen3_5, build_qwen3_next, build_smollm3, build_zamba2;

/// The model that a config describes: its own, or the text model within it (text_config).
struct described_model {
  config fields;
  build_function* build = nullptr;
  bool inner = false;
  std::vector<std::string> siblings;  ///< of an inner model, that are left out: "vision_config"
};

/// Throws klens::file_error: an unknown type, with those that are known; another format; quantized weights.
[[nodiscard]] described_model described_in(const config& file);

}  // namespace programs
