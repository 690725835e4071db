#include "model_types.hpp"

#include <string>
#include <string_view>

namespace programs {
namespace {

struct model_type {
  std::string_view name;
  build_function* build;
};

constexpr model_type known[] = {{"bamba", build_bamba},
                                {"falcon_h1", build_falcon_h1},
                                {"falcon_mamba", build_falcon_mamba},
                                {"gemma3_text", build_gemma3},
                                {"granitemoehybrid", build_granitemoehybrid},
                                {"hymba", build_hymba},
                                {"jamba", build_jamba},
                                {"lfm2", build_lfm2},
                                {"llama", build_llama},
                                {"mamba", build_mamba},
                                {"mamba2", build_mamba2},
                                {"mambavision", build_mambavision},
                                {"mistral", build_mistral},
                                {"nemotron_h", build_nemotron_h},
                                {"olmo_hybrid", build_olmo_hybrid},
                                {"qwen2", build_qwen2},
                                {"qwen3", build_qwen3},
                                {"qwen3_5_text", build_qwen3_5},
                                {"qwen3_next", build_qwen3_next},
                                {"smollm3", build_smollm3},
                                {"zamba2", build_zamba2}};

build_function* find(std::string_view name) {
  for (const model_type& each : known)
    if (each.name == name) return each.build;
  return nullptr;
}

}  // namespace

described_model described_in(const config& file) {
  if (file.has("quantization_config"))
    file.refuse("quantization_config", "is there; name the folder of the unquantized weights");
  const std::string name = file.text("model_type", "");
  if (build_function* const build = find(name)) return {file, build, false, {}};
  if (file.has("text_config")) {
    const config inner = file.inner_model("text_config");
    if (build_function* const build = find(inner.text("model_type", ""))) {
      if (inner.has("quantization_config"))
        inner.refuse("quantization_config", "is there; name the folder of the unquantized weights");
      described_model described{inner, build, true, {}};
      for (const std::string& each : file.objects())
        if (each != "text_config") described.siblings.push_back(each);
      return described;
    }
    inner.refuse("model_type", "is " + klens::detail::name_text(inner.text("model_type", "")) + ", which klens does not know");
  }
  if (name.empty() && file.has("d_model") && file.has("n_layer"))
    file.refuse("model_type",
                "is missing, and d_model and n_layer are those of mamba-ssm's own format; convert the folder with "
                "convert_mamba_ssm_checkpoint_to_pytorch.py or convert_mamba2_ssm_checkpoint_to_pytorch.py of transformers 4 "
                "(src/transformers/models/mamba, mamba2), or take the published folder whose name ends in -hf");
  std::string all;
  for (const model_type& each : known) all += (all.empty() ? "" : ", ") + std::string(each.name);
  file.refuse("model_type", (name.empty() ? "is missing" : "is " + klens::detail::name_text(name)) + "; klens knows " + all);
}

}  // namespace programs
