#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace programs {

/// Rows of a packed tensor that are stored under one scheme; tensors list theirs from the first row to the last.
struct packed_rows {
  std::string scheme;
  std::size_t rows = 0;
};
using packed_tensors = std::map<std::string, std::vector<packed_rows>, std::less<>>;

/// What makes a model folder a packed one: {"format": "klens-packed", "version": 1, "tensors": {"<tensor>": [{"scheme":
/// "int4-g32", "rows": 768}, ...]}} beside model.safetensors, in which such a tensor is a U8 vector: its rows one after the
/// other, each as its scheme packs it, without gaps. Other tensors are as in any model folder.
inline constexpr const char* packed_file_name = "klens-packed.json";

/// Empty where the folder has no such file. Throws klens::file_error, starting with the file's path.
[[nodiscard]] packed_tensors read_packed(const std::filesystem::path& folder);

}  // namespace programs
