#pragma once

#include <filesystem>

#include "commands.hpp"

namespace llama_adapter {

/// What klens-llama takes beside what every engine does.
struct llama_arguments {
  std::filesystem::path text;     ///< instead of tokens: the model's own tokenizer makes them
  bool plain_text = false;        ///< take <unk> and its like for five characters
  std::filesystem::path base;     ///< instead of either: tokens and reference of llama-perplexity --kl-divergence-base
  std::filesystem::path imatrix;  ///< quantize with this importance matrix
  std::filesystem::path table;    ///< KLs in the form of the GGUF Tool Suite, too
  int gpu_layers = 0;
};

/// Scores every matrix that llama-quantize would change. False: interrupted.
[[nodiscard]] bool rank(const programs::rank_arguments& arguments, const llama_arguments& of_llama);

}  // namespace llama_adapter
