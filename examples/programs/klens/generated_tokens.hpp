#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "engine/model.hpp"
#include "token_set.hpp"

namespace programs {

/// Tokens that a model samples itself: each follows those before it with the probability that the model gives it (temperature 1).
/// A sequence begins with the model's beginning-of-text token, or with any token where it has none.
/// Returns    sequences * length tokens. Each sequence draws from a stream of its own, so that more of them change none; a draw
///            on the edge between two tokens may fall to the other one on another instruction set.
/// Memory     keys, values and recurrent states of all sequences, and a row of logits for each.
[[nodiscard]] std::vector<std::int32_t> sample_tokens(const model& of, std::size_t sequences, std::size_t length,
                                                      std::uint64_t seed, std::size_t threads);

/// The tokens of a command: those of its file (see read_tokens), or what the model generates, in sequences of choice.length or
/// default_length; they are written where the command line says so.
/// Throws klens::argument_error where there is neither, or both, or fewer than 2 tokens are to be generated.
[[nodiscard]] token_set tokens_for(const model& of, const token_choice& choice, std::size_t threads, std::size_t default_length,
                                   std::size_t default_sequences = std::numeric_limits<std::size_t>::max());

}  // namespace programs
