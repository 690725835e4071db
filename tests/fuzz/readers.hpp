#pragma once
// What the fuzzers and their plain test do with a file's content: read it as klens reads files of that kind, and use all that was
// accepted. Whatever is refused must be refused as a file_error of one line; anything else that is thrown is a finding.

#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <klens/io/safetensors.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

#include "engine/model.hpp"
#include "support/run_program.hpp"

namespace fuzz {

inline void expect(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

inline void accept_or_refuse(const std::filesystem::path& folder, const auto& read) {
  try {
    read();
  } catch (const klens::file_error& refusal) {
    const std::string_view said = refusal.what();
    expect(said.starts_with(folder.string()), "a refusal does not begin with the path");
    expect(said.find('\n') == std::string_view::npos, "a refusal has more than one line");
  }
}

inline void overwrite(const std::filesystem::path& file, std::string_view content) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << content;
}

/// A short forward of the model in a folder.
inline void load_and_run(const std::filesystem::path& folder) {
  const programs::model model = programs::model::load(folder);
  if (model.reads_images()) {
    programs::state at = model.begin_images(klens::matrix<float>::Ones(2, 3 * 9 * 5), {9, 5});
    for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(at, stage);
    expect(model.logits(at).rows() == 2, "logits of another shape");
    return;
  }
  programs::state at = model.begin(std::array<std::int32_t, 6>{0, 1, 2, 1, 0, 2}, 2, 3);
  for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(at, stage);
  expect(model.logits(at).rows() == 6, "logits of another shape");
}

/// content as model.safetensors.
inline void safetensors(std::string_view content) {
  static const support::temporary_folder folder;
  overwrite(folder / "model.safetensors", content);
  accept_or_refuse(folder.path(), [&] {
    const klens::safetensors file{folder / "model.safetensors"};
    std::size_t bytes = 0;
    for (const klens::stored_tensor& each : file.tensors()) {
      expect(file.find(each.name) == &each, "a tensor is not found under its name");
      bytes += each.bytes.size();
      unsigned sum = 0;
      for (const std::byte byte : each.bytes) sum += std::to_integer<unsigned>(byte);
      expect(sum <= 255 * each.bytes.size(), "no such sum");
      (void)klens::shape_text(each.shape);
      if (each.dtype != "F32" && each.dtype != "F16" && each.dtype != "BF16") continue;
      std::vector<float> values(each.elements());
      file.copy_floats(each, 0, values);
    }
    expect(bytes <= content.size(), "tensors are larger than the file");
  });
}

/// content as the config.json of a small model: that of the first type that it names.
inline void config(std::string_view content) {
  constexpr std::pair<std::string_view, const char*> models[] = {{"\"bamba\"", "bamba_biases_tied"},
                                                                 {"\"falcon_h1\"", "falcon_h1_norm_then_gate"},
                                                                 {"\"llama\"", "llama_yarn"},
                                                                 {"\"mamba2\"", "mamba2_step_limit"},
                                                                 {"\"mamba\"", "mamba_inner_width"},
                                                                 {"\"falcon_mamba\"", "falcon_mamba_biases"},
                                                                 {"\"gemma3_text\"", "gemma3_linear"},
                                                                 {"\"granitemoehybrid\"", "granitemoehybrid_moe"},
                                                                 {"\"lfm2\"", "lfm2_biases"},
                                                                 {"\"mistral\"", "mistral_window"},
                                                                 {"\"moe\"", "nemotron_h_experts"},
                                                                 {"\"nemotron_h\"", "nemotron_h_biases"},
                                                                 {"\"olmo_hybrid\"", "olmo_hybrid_positive"},
                                                                 {"\"qwen2\"", "qwen2_windows"},
                                                                 {"\"qwen3\"", "qwen3_biases_tied"},
                                                                 {"\"qwen3_5_text\"", "qwen3_5_tied"},
                                                                 {"\"qwen3_next\"", "qwen3_next_experts"},
                                                                 {"\"smollm3\"", "smollm3_windows"},
                                                                 {"\"zamba2\"", "zamba2_two_blocks"},
                                                                 {"\"hymba\"", "../hymba"},
                                                                 {"\"mambavision\"", "../mambavision"},
                                                                 {"", "jamba_experts"}};
  static const support::temporary_folder folder;
  for (const auto& [mark, name] : models) {
    if (content.find(mark) == std::string_view::npos) continue;
    const std::filesystem::path weights = folder / "model.safetensors";
    std::filesystem::remove(weights);
    std::filesystem::create_symlink(std::filesystem::path(KLENS_TEST_DATA) / "golden/variants" / name / "model.safetensors",
                                    weights);
    break;
  }
  overwrite(folder / "config.json", content);
  accept_or_refuse(folder.path(), [&] { load_and_run(folder.path()); });
}

/// content as the model.safetensors.index.json of a model in three shards.
inline void index(std::string_view content) {
  static const support::temporary_folder folder;
  if (static bool made = false; !std::exchange(made, true)) {
    const std::filesystem::path whole = std::filesystem::path(KLENS_TEST_DATA) / "golden/variants/mamba_inner_width";
    std::filesystem::copy(whole / "config.json", folder / "config.json");
    const klens::safetensors file{whole / "model.safetensors"};
    for (std::size_t i = 0; i < 3; ++i) {
      std::vector<klens::stored_tensor> some;
      for (std::size_t k = i; k < file.tensors().size(); k += 3) some.push_back(file.tensors()[k]);
      klens::write_safetensors(folder / std::string{"abc"[i]}, some);
    }
  }
  overwrite(folder / "model.safetensors.index.json", content);
  accept_or_refuse(folder.path(), [&] { load_and_run(folder.path()); });
}

}  // namespace fuzz
