#pragma once
// Model folders of published sizes with random weights, for benchmarks: made when they are needed, gone afterwards.

#include <cmath>
#include <filesystem>
#include <klens/io/safetensors.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace benchmarks {

using named_shapes = std::vector<std::pair<std::string, std::vector<std::size_t>>>;

/// A folder with config.json and the named tensors in BF16, which lives as long as this object.
class random_model {
 public:
  random_model(const std::string& name, const nlohmann::json& config, const named_shapes& shapes)
      : folder_(std::filesystem::temp_directory_path() / ("klens-benchmark-" + name + std::to_string(std::random_device{}()))) {
    std::filesystem::create_directory(folder_);
    klens::write_file(folder_ / "config.json", config.dump());
    std::mt19937 random{7};
    std::vector<std::vector<klens::bfloat16>> values;
    std::vector<klens::stored_tensor> tensors;
    for (const auto& [tensor, shape] : shapes) {
      std::size_t size = 1;
      for (const std::size_t extent : shape) size *= extent;
      std::vector<klens::bfloat16>& made = values.emplace_back(size);
      const float middle = shape.size() == 1 ? 1.f : 0.f, spread = 1.7f / std::sqrt(static_cast<float>(shape.back()));
      std::uniform_real_distribution<float> uniform{middle - spread, middle + spread};
      for (klens::bfloat16& each : made) each = static_cast<klens::bfloat16>(uniform(random));
      tensors.push_back(klens::as_tensor<klens::bfloat16>(tensor, shape, made));
    }
    klens::write_safetensors(folder_ / "model.safetensors", tensors);
  }
  random_model(const random_model&) = delete;
  random_model& operator=(const random_model&) = delete;
  ~random_model() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return folder_; }

 private:
  std::filesystem::path folder_;
};

/// The shape of state-spaces/mamba-130m.
[[nodiscard]] inline random_model mamba_130m() {
  constexpr std::size_t width = 768, inner = 1536, states = 16, rank = 48, taps = 4, layers = 24, vocabulary = 50280;
  named_shapes shapes{{"backbone.embeddings.weight", {vocabulary, width}}, {"backbone.norm_f.weight", {width}}};
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string block = "backbone.layers." + std::to_string(i) + ".", mixer = block + "mixer.";
    shapes.push_back({block + "norm.weight", {width}});
    shapes.push_back({mixer + "in_proj.weight", {2 * inner, width}});
    shapes.push_back({mixer + "conv1d.weight", {inner, 1, taps}});
    shapes.push_back({mixer + "conv1d.bias", {inner}});
    shapes.push_back({mixer + "x_proj.weight", {rank + 2 * states, inner}});
    shapes.push_back({mixer + "dt_proj.weight", {inner, rank}});
    shapes.push_back({mixer + "dt_proj.bias", {inner}});
    shapes.push_back({mixer + "A_log", {inner, states}});
    shapes.push_back({mixer + "D", {inner}});
    shapes.push_back({mixer + "out_proj.weight", {width, inner}});
  }
  return {"mamba-130m",
          {{"model_type", "mamba"}, {"hidden_size", width}, {"num_hidden_layers", layers}, {"vocab_size", vocabulary}},
          shapes};
}

/// The shape of state-spaces/mamba2-130m.
[[nodiscard]] inline random_model mamba2_130m() {
  constexpr std::size_t width = 768, inner = 1536, heads = 24, states = 128, taps = 4, layers = 24, vocabulary = 50288;
  constexpr std::size_t mixed = inner + 2 * states;
  named_shapes shapes{{"backbone.embeddings.weight", {vocabulary, width}}, {"backbone.norm_f.weight", {width}}};
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string block = "backbone.layers." + std::to_string(i) + ".", mixer = block + "mixer.";
    shapes.push_back({block + "norm.weight", {width}});
    shapes.push_back({mixer + "in_proj.weight", {inner + mixed + heads, width}});
    shapes.push_back({mixer + "conv1d.weight", {mixed, 1, taps}});
    shapes.push_back({mixer + "conv1d.bias", {mixed}});
    for (const char* const name : {"A_log", "D", "dt_bias"}) shapes.push_back({mixer + name, {heads}});
    shapes.push_back({mixer + "norm.weight", {inner}});
    shapes.push_back({mixer + "out_proj.weight", {width, inner}});
  }
  return {"mamba2-130m",
          {{"model_type", "mamba2"},
           {"hidden_size", width},
           {"num_hidden_layers", layers},
           {"vocab_size", vocabulary},
           {"num_heads", heads},
           {"n_groups", 1},
           {"tie_word_embeddings", true}},
          shapes};
}

}  // namespace benchmarks
