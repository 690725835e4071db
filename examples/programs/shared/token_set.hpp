#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "fingerprint.hpp"
#include "windows.hpp"

namespace programs {

/// Which tokens of a file a command uses.
struct token_choice {
  std::filesystem::path file;
  std::optional<std::size_t> sequences;  ///< exactly so many
  std::optional<std::size_t> length;     ///< of each sequence
  std::size_t first = 0;                 ///< tokens of the file to skip
  std::size_t generated = 0;             ///< so many tokens that the model samples itself, and no file; 0: none
  std::uint64_t seed = 1;                ///< of those
  std::filesystem::path keep_at = {};    ///< where they are written; empty: nowhere
};

/// What a token is there for.
enum class token_role : std::uint8_t {
  text,     ///< the model reads it, and is asked to predict it
  context,  ///< the model reads it, but nobody asks for it (a label of -100)
  padding   ///< fills up a sequence, always at its end; no real position sees it
};

/// Sequences of equal length, one after the other.
struct token_set {
  std::vector<std::int32_t> tokens;
  std::size_t sequences = 0;
  std::size_t length = 0;
  std::vector<token_role> roles = {};     ///< one a token; empty: all are text
  std::vector<std::size_t> in_file = {};  ///< of each sequence's first token: which token of the file it is
  std::string content = {};               ///< of sequences that are no tokens: what tells them from others

  [[nodiscard]] token_role role(std::size_t token) const noexcept { return roles.empty() ? token_role::text : roles[token]; }
  /// Whether the next token of its sequence is one that the model is asked to predict.
  [[nodiscard]] bool has_next(std::size_t position) const noexcept {
    return (position + 1) % length != 0 && role(position + 1) == token_role::text;
  }
  /// Whether metrics compare the model's predictions there: after text, and where text follows. Never on padding.
  [[nodiscard]] bool counts(std::size_t position) const noexcept {
    return role(position) == token_role::text || (role(position) == token_role::context && has_next(position));
  }
  [[nodiscard]] std::size_t positions() const noexcept {
    std::size_t count = 0;
    for (std::size_t at = 0; at < tokens.size(); ++at) count += counts(at) ? 1 : 0;
    return count;
  }

  /// As klens::rank_options wants them: which positions count, empty where all do.
  [[nodiscard]] std::vector<bool> counted() const {
    std::vector<bool> which(roles.size());
    for (std::size_t at = 0; at < which.size(); ++at) which[at] = counts(at);
    return which;
  }
  /// The tokens, -1 for those that the model is not asked to predict.
  [[nodiscard]] std::vector<std::int32_t> targets() const {
    std::vector<std::int32_t> asked = tokens;
    for (std::size_t at = 0; at < roles.size(); ++at)
      if (roles[at] != token_role::text) asked[at] = -1;
    return asked;
  }
  /// The tokens without padding.
  [[nodiscard]] std::vector<std::int32_t> without_padding() const {
    std::vector<std::int32_t> read;
    for (std::size_t at = 0; at < tokens.size(); ++at)
      if (role(at) != token_role::padding) read.push_back(tokens[at]);
    return read;
  }
  /// Where one of those stands in the file, whose padding counts: for messages.
  [[nodiscard]] std::size_t place_in_file(std::size_t without_padding) const {
    std::size_t at = 0;
    while (role(at) == token_role::padding || without_padding-- > 0) ++at;
    return in_file.empty() ? at : in_file[at / length] + at % length;
  }

  /// Those of one batch; the last one may have fewer sequences.
  [[nodiscard]] std::span<const std::int32_t> batch(std::size_t index, std::size_t sequences_per_batch) const {
    const std::size_t first = index * sequences_per_batch, count = std::min(sequences_per_batch, sequences - first);
    return std::span(tokens).subspan(first * length, count * length);
  }

  /// Appends tokens first .. first + length of another set as a sequence, unless no position there counts.
  void take_sequence(const token_set& from, std::size_t first) {
    const auto begin = static_cast<std::ptrdiff_t>(first), end = static_cast<std::ptrdiff_t>(first + length);
    tokens.insert(tokens.end(), from.tokens.begin() + begin, from.tokens.begin() + end);
    if (!from.roles.empty()) {
      roles.insert(roles.end(), from.roles.begin() + begin, from.roles.begin() + end);
      const auto added = roles.end() - static_cast<std::ptrdiff_t>(length);
      if (std::find(added, roles.end(), token_role::text) == roles.end()) {
        roles.erase(added, roles.end());
        tokens.resize(roles.size());
        return;
      }
    }
    ++sequences;
    if (!from.in_file.empty()) in_file.push_back(from.in_file[first / from.length] + first % from.length);
  }

  /// Sequences first .. first + count.
  [[nodiscard]] token_set part(std::size_t first, std::size_t count) const {
    token_set some{{}, 0, length};
    for (std::size_t s = first; s < first + count; ++s) some.take_sequence(*this, s * length);
    return some;
  }

  [[nodiscard]] std::string fingerprint() const {
    fingerprint_hasher hasher;
    hasher.add(sequences).add(length).add(std::as_bytes(std::span(tokens)));
    if (!content.empty()) hasher.add(std::as_bytes(std::span(content)));
    if (!roles.empty()) hasher.add(std::as_bytes(std::span(roles)));
    return hasher.text();
  }
};

/// The same tokens in windows. Those of padding alone are left out.
[[nodiscard]] inline token_set in_windows(const token_set& whole, std::size_t least, std::uint64_t seed) {
  const window_order cut = window_order::of(whole.sequences, whole.length, least, seed);
  token_set made{{}, 0, cut.length};
  for (const window& each : cut.order) made.take_sequence(whole, each.sequence * whole.length + each.first);
  return made;
}

/// Where a run of `length` tokens (or all of the shorter set, where it has fewer) begins in the file of `second` that `first` holds
/// as well, padding apart: the same text in both, whatever the files are called and however they are cut into sequences.
[[nodiscard]] inline std::optional<std::size_t> shared_run(const token_set& first, const token_set& second,
                                                           std::size_t length = 64) {
  const std::vector<std::int32_t> one = first.without_padding(), other = second.without_padding();
  length = std::min({length, one.size(), other.size()});
  const auto run = [&](const std::vector<std::int32_t>& of, std::size_t at) {
    return std::string_view{reinterpret_cast<const char*>(of.data() + at), length * sizeof(std::int32_t)};
  };
  std::unordered_set<std::string_view> known;
  for (std::size_t at = 0; at + length <= one.size(); ++at) known.insert(run(one, at));
  for (std::size_t at = 0; at + length <= other.size(); ++at)
    if (known.contains(run(other, at))) return second.place_in_file(at);
  return std::nullopt;
}

}  // namespace programs
