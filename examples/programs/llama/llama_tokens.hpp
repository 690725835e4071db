#pragma once

#include "gguf_model.hpp"
#include "rank_command.hpp"
#include "token_set.hpp"

namespace llama_adapter {

/// The tokens that a command line asks for: from a file of token ids, or from a text by the model's tokenizer. A text is cut as
/// llama-perplexity does it: where the model begins texts with a token, that one replaces the first of each sequence.
/// Throws klens::error.
[[nodiscard]] programs::token_set read_tokens(const programs::token_choice& choice, const llama_arguments& of_llama,
                                              const gguf_model& model);

}  // namespace llama_adapter
