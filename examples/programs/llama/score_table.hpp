#pragma once

#include <filesystem>
#include <klens/rank/scores.hpp>
#include <span>
#include <string>

#include "gguf_file.hpp"

namespace llama_adapter {

/// KL of tensors as the GGUF Tool Suite writes it: a heading `QTYPE,<tensor>,...`, then one row a type, one cell a tensor.
/// Scores of those of `tensors` and types that this model and this ggml have; what was left out, and what makes the numbers
/// doubtful, stands in the remarks: a floor under all values, equal values, empty cells, and, where a column `group0` has the KL
/// of all tensors together, how far that is from the sum. A cell without a number is a candidate whose damage is unknown.
/// Throws klens::file_error: no such table, rows of another length, no tensor of this model.
[[nodiscard]] klens::scores read_score_table(const std::filesystem::path& path, const gguf_file& model,
                                             std::span<const std::string> tensors);

/// Whether a file begins like such a table.
[[nodiscard]] bool is_score_table(const std::filesystem::path& path);

/// The same form, of scores; what says nothing is an empty cell.
[[nodiscard]] std::string score_table_text(const klens::scores& scores);

}  // namespace llama_adapter
