#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "gguf_file.hpp"
#include "gguf_model.hpp"
#include "token_set.hpp"

namespace llama_adapter {

/// What llama.cpp's own tools make of a plan, and what klens measures on the file they made.
struct quantized_file {
  std::uint64_t bytes = 0;
  double tool_kl = 0;   ///< llama-perplexity's mean KLD: its second halves of sequences, from 16-bit log-probabilities
  double klens_kl = 0;  ///< the same positions from float logits, both files run as llama.cpp runs them
};

/// What llama-quantize takes.
struct quantize_request {
  std::filesystem::path types;    ///< a tensor type file
  std::filesystem::path imatrix;  ///< empty: none
  std::filesystem::path target;
};
[[nodiscard]] std::string quantize_arguments(const gguf_file& source, const quantize_request& request);

/// Throws klens::error where llama-quantize or llama-perplexity is missing: in the folder `tools` or, where that is empty, on PATH.
void expect_tools(const std::filesystem::path& tools);

/// Runs both of them. The target stays. Throws klens::error, with the tool's last line.
[[nodiscard]] quantized_file make_and_measure(const gguf_file& source, const quantize_request& request,
                                              const std::filesystem::path& tools, const programs::token_set& tokens,
                                              const run_settings& settings);

}  // namespace llama_adapter
