#pragma once

#include <cstddef>
#include <klens/detail/order.hpp>
#include <klens/detail/random.hpp>
#include <klens/error.hpp>
#include <klens/rank/rank_options.hpp>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Whether the position of that token counts; all do where options.counted is empty.
[[nodiscard]] inline bool position_counts(const rank_options& options, std::size_t token) {
  return options.counted.empty() || options.counted[token];
}

/// How many of the first `tokens` positions count.
[[nodiscard]] inline std::size_t positions_counted(const rank_options& options, std::size_t tokens) {
  if (options.counted.empty()) return tokens;
  const auto first = options.counted.begin();
  return static_cast<std::size_t>(std::count(first, first + static_cast<std::ptrdiff_t>(tokens), true));
}

/// Which positions of a sequence are measured: those that count, or options.positions drawn from them across all sequences.
/// Every sequence gives its share (rounded up or down), drawn without replacement, so that the mean over them estimates the mean
/// over all. Depends on seed and sequence alone, not on batches. Ascending.
///   `first_token`   the sequence's first, in the whole calibration set
[[nodiscard]] inline std::vector<std::size_t> drawn_positions(const rank_options& options, std::size_t sequence,
                                                              std::size_t first_token, std::size_t length) {
  if (!options.counted.empty() && first_token + length > options.counted.size())
    refuse<shape_error>({"options.counted has ", options.counted.size(), " entries, the forward gave at least ",
                         first_token + length, " positions; give an entry for each"});
  std::vector<std::size_t> positions;
  for (std::size_t p = 0; p < length; ++p)
    if (position_counts(options, first_token + p)) positions.push_back(p);
  const std::size_t wanted = options.positions, all = positions_counted(options, options.tokens.size() / length * length);
  if (wanted == 0 || wanted >= all) return positions;
  const std::size_t before = positions_counted(options, first_token), here = positions.size();
  const std::size_t count = (before + here) * wanted / all - before * wanted / all;
  random_stream random{options.seed, sequence};
  for (std::size_t i = 0; i < count; ++i) std::swap(positions[i], positions[i + random.below(here - i)]);
  positions.resize(count);
  std::vector<std::size_t> ascending;
  for (const std::size_t i : order_of(count, [&](std::size_t a, std::size_t b) { return positions[a] < positions[b]; }))
    ascending.push_back(positions[i]);
  return ascending;
}

}  // namespace klens::detail
