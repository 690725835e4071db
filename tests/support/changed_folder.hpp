#pragma once

#include <filesystem>
#include <functional>
#include <klens/io/atomic_file.hpp>
#include <klens/io/safetensors.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/run_program.hpp"

namespace support {

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

}  // namespace support
