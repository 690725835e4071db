#pragma once

#include <filesystem>

#include "gguf_plan.hpp"
#include "rank_command.hpp"

namespace llama_adapter {

struct plan_arguments {
  programs::run_arguments run;  ///< its tokens are held out; none: nothing is measured
  llama_arguments of_llama;
  std::filesystem::path scores;
  file_limit limit;
  plan_rules rules;
  std::filesystem::path output;
  bool verify = false;
  std::filesystem::path tools, quantized;
};

/// Prints which type each tensor gets, and writes the file that llama-quantize takes as --tensor-type-file.
/// Throws klens::error.
void plan(const plan_arguments& arguments);

}  // namespace llama_adapter
