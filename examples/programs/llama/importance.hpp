#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "gguf_file.hpp"

namespace llama_adapter {

/// An importance matrix: how much each column of a tensor's rows matters, by what a text put into it. As llama-imatrix writes it,
/// in GGUF or in the older format; the numbers are those that llama-quantize makes of it.
class importance_matrix {
 public:
  /// Throws klens::file_error: no such file, cut short, not finite, or of another model.
  importance_matrix(std::filesystem::path path, const gguf_file& of);

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// Of the rows of one matrix, or of each expert in turn; empty where it has no data for the tensor.
  [[nodiscard]] std::span<const float> of(const std::string& tensor) const noexcept;
  /// Tells `file` what llama-quantize will write of this matrix into its header: path, text, tensors and chunks.
  void announce_to(gguf_file& file) const;
  /// What tells it from others, for people and in scores.
  [[nodiscard]] std::string name() const;

 private:
  void read_gguf();
  void read_older(const std::string& content);
  void expect_model(const gguf_file& model) const;
  void take(const std::string& tensor, std::span<const float> sums, std::span<const float> counts);

  std::filesystem::path path_;
  std::string fingerprint_;
  std::string dataset_;       ///< the text that it was made of; empty: not said
  std::uint32_t chunks_ = 0;  ///< of that text; 0: not said
  std::map<std::string, std::vector<float>> values_;
};

/// Begins the remark that scores carry, so that a plan asks for the same matrix.
inline constexpr const char* importance_remark = "quantized with the importance matrix ";
[[nodiscard]] inline std::string remark_on(const importance_matrix& matrix) { return importance_remark + matrix.name(); }

}  // namespace llama_adapter
