#pragma once

#include <ggml-cpp.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace llama_adapter {

/// A tensor as a GGUF file lists it. Matrices of experts count as one, their rows below one another.
struct gguf_tensor {
  std::string name;
  ggml_type type = GGML_TYPE_F32;
  std::uint64_t columns = 0, rows = 0;
  std::uint64_t bytes = 0;
  std::uint64_t experts = 1;

  [[nodiscard]] std::uint64_t weights() const noexcept { return rows * columns; }
};

/// Types that tensors are to have, by name.
using tensor_types = std::map<std::string, ggml_type>;

/// The header of a GGUF file, checked against the file: what llama.cpp gets to see has every tensor in full and is not split,
/// and loading it was tried in another process, for a failed assertion inside llama.cpp would end this one.
class gguf_file {
 public:
  /// Throws klens::file_error: path, what is wrong, what to do.
  explicit gguf_file(std::filesystem::path path);

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] const std::vector<gguf_tensor>& tensors() const noexcept { return tensors_; }
  [[nodiscard]] const gguf_tensor& at(const std::string& name) const;
  [[nodiscard]] std::uint64_t weights() const noexcept;

  /// Bytes that a tensor takes in a file as `type`, its padding included.
  [[nodiscard]] std::uint64_t bytes_in_file(const gguf_tensor& tensor, ggml_type type) const;
  /// An entry that llama-quantize will put into the header; a text of up to 127 bytes, as it keeps them.
  void expect_entry(const std::string& key, const std::string& text) { texts_[key] = text.substr(0, 127); }
  void expect_entry(const std::string& key, std::uint32_t number) { numbers_[key] = number; }
  /// Bytes in front of the tensors in the file that llama-quantize writes.
  [[nodiscard]] std::uint64_t metadata_bytes() const;
  /// The file that llama-quantize writes, to the byte, where it gives these tensors these types and the others stay as they are.
  [[nodiscard]] std::uint64_t file_bytes_as(const tensor_types& types) const;

 private:
  void read_header();
  void expect_whole() const;

  std::filesystem::path path_;
  gguf_context_ptr header_;
  ggml_context_ptr shapes_;
  std::vector<gguf_tensor> tensors_;
  std::map<std::string, std::string> texts_;      // that are to come into the header
  std::map<std::string, std::uint32_t> numbers_;  // the same
};

/// Bytes of a matrix stored as `type`, rows padded to whole blocks.
[[nodiscard]] std::uint64_t bytes_as(ggml_type type, std::uint64_t rows, std::uint64_t columns);

}  // namespace llama_adapter
