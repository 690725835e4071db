#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/matrix.hpp>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "token_set.hpp"

namespace programs {

/// How an engine lets its model go on with tokens of its own.
struct token_sampler {
  /// Logits [sequences x vocabulary] of what follows, given the newest token of each sequence.
  using next_logits = std::function<klens::matrix<float>(std::span<const std::int32_t> newest)>;

  std::size_t vocabulary = 0;
  std::optional<std::int32_t> beginning = {};  ///< the token that begins each sequence; none: any
  std::size_t threads = 1;
  std::size_t at_once = std::numeric_limits<std::size_t>::max();  ///< most sequences that it goes on with together
  /// Begins so many sequences, which will have at most `length` tokens.
  std::function<next_logits(std::size_t sequences, std::size_t length)> begin = {};
};

/// Tokens that a model samples itself: each follows those before it with the probability that the model gives it (temperature 1).
/// A sequence begins with the model's beginning-of-text token, or with any token where it has none.
/// Returns  sequences * length tokens. Each sequence draws from a stream of its own, so that more of them change none; a draw
///          on the edge between two tokens may fall to the other one on another instruction set.
/// Throws   klens::numeric_error where logits are not finite.
[[nodiscard]] std::vector<std::int32_t> sample_tokens(const token_sampler& of, std::size_t sequences, std::size_t length,
                                                      std::uint64_t seed);

/// What --generate asks for, in sequences of choice.length or default_length (0: 256); written where the command line says so.
/// Throws klens::argument_error where a sequence would have fewer than two tokens.
[[nodiscard]] token_set generate_tokens(const token_sampler& of, const token_choice& choice, std::size_t default_length);

/// The tokens of a command: those, or those of its file (see read_tokens).
/// Throws klens::argument_error where there is neither.
[[nodiscard]] token_set tokens_for(const token_sampler& of, const token_choice& choice, std::size_t default_length,
                                   std::size_t default_sequences = std::numeric_limits<std::size_t>::max());

}  // namespace programs
