#pragma once

#include <cstddef>
#include <limits>
#include <string>

#include "token_set.hpp"

namespace programs {

/// Reads a safetensors file of tokens and cuts them into sequences; none crosses the end of a row.
///   input_ids       [n] or [batch, length]
///   attention_mask  0 for padding, else 1; at the end of rows or at their beginning: that is moved to the end, so that the model
///                   reads a sequence as it would without padding
///   labels          -100 for tokens that the model reads and is not asked to predict; else as input_ids
///   position_ids    must count on within each row, as klens does
/// The last three may be absent, and have the shape of input_ids. Sequences in which no position counts are left out.
///   default_length     for a flat file, where none was chosen; 0: all that there is, as one sequence
///   default_sequences  at most so many, where no number was chosen
/// Throws klens::file_error: no input_ids, not integers, too few tokens, ids outside the vocabulary, packed rows, masks with holes,
/// and other tensors that may be inputs: all but floats, which were computed from the tokens (logits, hidden states).
[[nodiscard]] token_set read_tokens(const token_choice& choice, std::size_t vocabulary, std::size_t default_length,
                                    std::size_t default_sequences = std::numeric_limits<std::size_t>::max());

/// Throws klens::argument_error where no token is there to be predicted: perplexity would be no number.
void expect_next_tokens(const token_set& tokens);

/// "4 sequences of 32 tokens, 62 of them padding": for reports.
[[nodiscard]] std::string size_text(const token_set& tokens);

}  // namespace programs
