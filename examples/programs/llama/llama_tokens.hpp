#pragma once

#include "gguf_model.hpp"
#include "rank_command.hpp"
#include "token_set.hpp"

namespace llama_adapter {

/// The tokens that a command line asks for: from a file of token ids, from a text by the model's tokenizer, or from the model
/// itself (see generate_tokens). A text is cut as llama-perplexity does it: where the model begins texts with a token, that one
/// replaces the first of each sequence.
/// Throws klens::error.
[[nodiscard]] programs::token_set tokens_for(const programs::run_arguments& run, const llama_arguments& of_llama,
                                             const gguf_model& model);

}  // namespace llama_adapter
