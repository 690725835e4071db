#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <klens/detail/random.hpp>
#include <klens/error.hpp>
#include <klens/io/safetensors.hpp>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fingerprint.hpp"

namespace programs {

/// Which tokens of a file a command uses.
struct token_choice {
  std::filesystem::path file;
  std::optional<std::size_t> sequences;  ///< exactly so many
  std::optional<std::size_t> length;     ///< of each sequence
  std::size_t first = 0;                 ///< tokens of the file to skip
};

/// Sequences of equal length, one after the other.
struct token_set {
  std::vector<std::int32_t> tokens;
  std::size_t sequences = 0;
  std::size_t length = 0;

  /// Those of one batch; the last one may have fewer sequences.
  [[nodiscard]] std::span<const std::int32_t> batch(std::size_t index, std::size_t sequences_per_batch) const {
    const std::size_t first = index * sequences_per_batch, count = std::min(sequences_per_batch, sequences - first);
    return std::span(tokens).subspan(first * length, count * length);
  }

  [[nodiscard]] std::string fingerprint() const {
    return fingerprint_hasher{}.add(sequences).add(length).add(std::as_bytes(std::span(tokens))).text();
  }
};

/// The same tokens in shorter sequences, up to four out of each and none below 64 tokens, in an order drawn by the seed: so that
/// a few of them see much of the text. Tokens beyond a whole number of them are left out.
[[nodiscard]] inline token_set in_windows(const token_set& whole, std::uint64_t seed) {
  token_set windows;
  const std::size_t from_each = std::clamp<std::size_t>(whole.length / 64, 1, 4);
  windows.length = whole.length / from_each;
  windows.sequences = whole.sequences * from_each;
  std::vector<std::size_t> order(windows.sequences);
  std::iota(order.begin(), order.end(), std::size_t{0});
  klens::detail::random_stream{seed}.shuffle(order);
  for (const std::size_t each : order) {
    const std::size_t first = each / from_each * whole.length + each % from_each * windows.length;
    for (std::size_t t = first; t < first + windows.length; ++t) windows.tokens.push_back(whole.tokens[t]);
  }
  return windows;
}

/// Reads `input_ids` ([n], or [batch, length]: then no sequence crosses the end of a row) and cuts it into sequences.
///   default_length     for a flat file, where none was chosen; 0: all that there is, as one sequence
///   default_sequences  at most so many, where no number was chosen
/// Throws klens::file_error: no input_ids, not integers, too few tokens, ids outside the vocabulary.
[[nodiscard]] inline token_set read_tokens(const token_choice& choice, std::size_t vocabulary, std::size_t default_length,
                                           std::size_t default_sequences = std::numeric_limits<std::size_t>::max()) {
  const klens::safetensors file{choice.file};
  const auto refuse = [&](const std::string& problem) { throw klens::file_error{choice.file.string() + ": " + problem}; };
  const klens::stored_tensor& ids = file.at("input_ids");
  if (ids.shape.size() != 1 && ids.shape.size() != 2)
    refuse("input_ids has shape " + klens::shape_text(ids.shape) + "; klens wants [n] or [batch, length]");
  const std::size_t row_length = ids.shape.back();
  const std::size_t rows = ids.shape.size() == 2 ? ids.shape[0] : 1;
  const std::size_t available = rows * row_length;
  if (available <= choice.first)
    refuse("input_ids has " + std::to_string(available) + " tokens, none after the first " + std::to_string(choice.first));

  token_set set;
  set.length = choice.length.value_or(ids.shape.size() == 2 ? row_length : default_length);
  if (set.length == 0) set.length = choice.length ? 0 : available - choice.first;
  if (set.length == 0) refuse("--length 0: a sequence needs at least one token");
  const std::size_t most = choice.sequences.value_or(default_sequences);
  if (most == 0) refuse("--sequences 0: there is nothing to measure on");
  const std::vector<std::int64_t> all = file.integers("input_ids");
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t end = (r + 1) * row_length;
    for (std::size_t at = std::max(r * row_length, choice.first); end - std::min(at, end) >= set.length && set.sequences < most;
         at += set.length) {
      for (std::size_t i = at; i < at + set.length; ++i) {
        if (all[i] < 0 || static_cast<std::uint64_t>(all[i]) >= vocabulary)
          refuse("input_ids[" + std::to_string(i) + "] is " + std::to_string(all[i]) + ", outside the model's vocabulary of " +
                 std::to_string(vocabulary) + "; were these tokens made with this model's tokenizer?");
        set.tokens.push_back(static_cast<std::int32_t>(all[i]));
      }
      ++set.sequences;
    }
  }
  const std::size_t wanted = choice.sequences.value_or(1);
  if (set.sequences < wanted)
    refuse("holds " + std::to_string(set.sequences) + " sequences of " + std::to_string(set.length) +
           " tokens after the first " + std::to_string(choice.first) + ", not " + std::to_string(wanted) +
           "; choose a smaller --length, --sequences or --first");
  return set;
}

/// Where a run of `length` tokens (or all of the shorter set, where it has fewer) begins in `second` that `first` holds as well:
/// the same text in both, whatever the files are called and however they are cut into sequences.
[[nodiscard]] inline std::optional<std::size_t> shared_run(const token_set& first, const token_set& second,
                                                           std::size_t length = 64) {
  length = std::min({length, first.tokens.size(), second.tokens.size()});
  const auto run = [&](const token_set& of, std::size_t at) {
    return std::string_view{reinterpret_cast<const char*>(of.tokens.data() + at), length * sizeof(std::int32_t)};
  };
  std::unordered_set<std::string_view> known;
  for (std::size_t at = 0; at + length <= first.tokens.size(); ++at) known.insert(run(first, at));
  for (std::size_t at = 0; at + length <= second.tokens.size(); ++at)
    if (known.contains(run(second, at))) return at;
  return std::nullopt;
}

}  // namespace programs
