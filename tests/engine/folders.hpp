#pragma once
// Model folders for tests: those that are there, and copies of them with something changed.

#include <filesystem>
#include <fstream>
#include <functional>
#include <klens/io/safetensors.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model.hpp"
#include "support/run_program.hpp"

namespace support {

inline const std::filesystem::path golden = std::filesystem::path(KLENS_TEST_DATA) / "golden";

[[nodiscard]] inline nlohmann::json config_of(const std::filesystem::path& folder) {
  return nlohmann::json::parse(content_of(folder / "config.json"));
}

/// A copy of a model folder in which config.json and the list of tensors may be changed.
class changed_folder {
 public:
  using change_config = std::function<void(nlohmann::json&)>;
  using change_tensors = std::function<void(std::vector<klens::stored_tensor>&)>;

  explicit changed_folder(const std::filesystem::path& from, const change_config& config = {},
                          const change_tensors& tensors = {}) {
    nlohmann::json fields = config_of(from);
    if (config) config(fields);
    write("config.json", fields.dump());
    const klens::safetensors file{from / "model.safetensors"};
    std::vector<klens::stored_tensor> all(file.tensors().begin(), file.tensors().end());
    if (tensors) tensors(all);
    klens::write_safetensors(path() / "model.safetensors", all);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }
  void write(const std::string& name, const std::string& text) const { klens::write_file(folder_ / name, text); }

 private:
  temporary_folder folder_;
};

/// What loading a folder says; nothing where it succeeds.
[[nodiscard]] inline std::string load_error(const std::filesystem::path& folder, programs::load_options options = {}) {
  try {
    (void)programs::model::load(folder, options);
  } catch (const klens::file_error& error) {
    return error.what();
  }
  return "";
}

/// Token ids that differ from place to place.
[[nodiscard]] inline std::vector<std::int32_t> some_tokens(const programs::model& of, std::size_t count) {
  std::vector<std::int32_t> tokens(count);
  for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<std::int32_t>((i * i + 31 * i + 7) % of.vocabulary());
  return tokens;
}

/// The logits of a whole forward.
[[nodiscard]] inline klens::matrix<float> forward(const programs::model& of, const std::vector<std::int32_t>& tokens,
                                                  std::size_t sequences, std::size_t threads = 1) {
  programs::state at = of.begin(tokens, sequences, tokens.size() / sequences);
  for (std::size_t stage = 0; stage < of.stages(); ++stage) of.advance(at, stage, threads);
  return of.logits(at, threads);
}

}  // namespace support
