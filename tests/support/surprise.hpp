#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace support {

/// How much more tokens surprise a model than it expects, summed over positions, and what chance does to that sum. The expected
/// surprise of a draw is the entropy of what it is drawn from: a token that did not see what came before it, or is taken from
/// another distribution, costs more or less.
struct surprise {
  double excess = 0, deviation = 0;
};

/// `logits` [tokens x vocabulary] of sequences of that length, whose first tokens nothing predicts.
template <class Token>
[[nodiscard]] surprise surprise_of(std::span<const Token> tokens, std::size_t length, std::span<const float> logits) {
  const std::size_t vocabulary = logits.size() / tokens.size();
  double excess = 0, variance = 0;
  for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
    if ((t + 1) % length == 0) continue;
    const std::span<const float> row = logits.subspan(t * vocabulary, vocabulary);
    double most = row[0], total = 0, mean = 0, square = 0;
    for (const float each : row) most = std::fmax(most, each);
    for (const float each : row) total += std::exp(each - most);
    for (const float each : row) {
      const double own = most + std::log(total) - each;
      mean += std::exp(-own) * own;
      square += std::exp(-own) * own * own;
    }
    excess += most + std::log(total) - row[static_cast<std::size_t>(tokens[t + 1])] - mean;
    variance += square - mean * mean;
  }
  return {excess, std::sqrt(variance)};
}

}  // namespace support
