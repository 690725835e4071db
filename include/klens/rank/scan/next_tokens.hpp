#pragma once

#include <cstddef>
#include <cstdint>
#include <klens/error.hpp>
#include <klens/metric/metric.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/batch_reference.hpp>
#include <klens/rank/scan/drawn_positions.hpp>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Gives a batch's reference the token after each measured position: none at the end of a sequence, none where that token's own
/// position does not count, and none where it is -1.
///   options.tokens are those of the whole calibration set; the batch begins at `first_row`
/// Throws shape_error where they are fewer than the positions, argument_error for a token outside the vocabulary.
inline void take_next_tokens(batch_reference& reference, const rank_options& options, std::size_t first_row) {
  const std::vector<std::int32_t>& tokens = options.tokens;
  const std::size_t end = first_row + reference.sequences * reference.length;
  if (end > tokens.size())
    refuse<shape_error>({"options.tokens has ", tokens.size(), " tokens, the forward gave at least ", end, " positions"});
  for (const std::size_t here : reference.rows) {
    reference.next.push_back(-1);
    if ((here + 1) % reference.length == 0 || !position_counts(options, first_row + here + 1)) continue;
    const std::int32_t token = tokens[first_row + here + 1];
    if (token == -1) continue;
    if (token < 0 || static_cast<std::size_t>(token) >= reference.vocabulary)
      refuse<argument_error>(
          {"token ", token, " at ", first_row + here + 1, " is outside the vocabulary of ", reference.vocabulary});
    reference.next.back() = token;
  }
}

/// By sequence the sum of -ln P(next token), and how many.
[[nodiscard]] inline std::vector<contribution> nll_of_next_tokens(const batch_reference& reference) {
  std::vector<contribution> nll(reference.sequences, contribution{0, 0});
  for (std::size_t at = 0; at < reference.rows.size(); ++at) {
    if (!reference.next_token(at)) continue;
    contribution& sum = nll[reference.rows[at] / reference.length];
    sum.value += reference.known[at].log_sum_exp - static_cast<double>(reference.logits_of_next[at]);
    sum.weight += 1;
  }
  return nll;
}

}  // namespace klens::detail
