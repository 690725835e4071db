#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <vector>

namespace programs {

/// How many tokens in a row count as the same text. Runs of the calibration and the held-out tokens of WikiText-2 agree over
/// at most 31 by chance.
inline constexpr std::size_t sketch_run = 32;

/// A hash of each run of sketch_run tokens, in 53 bits, which every reader of JSON keeps.
[[nodiscard]] inline std::vector<std::uint64_t> run_hashes(std::span<const std::int32_t> tokens) {
  constexpr std::uint64_t base = 0x9e3779b97f4a7c15ULL;
  std::uint64_t leaving = 1, rolling = 0;
  for (std::size_t i = 1; i < sketch_run; ++i) leaving *= base;
  std::vector<std::uint64_t> hashes;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i >= sketch_run) rolling -= leaving * (static_cast<std::uint64_t>(tokens[i - sketch_run]) + 1);
    rolling = rolling * base + static_cast<std::uint64_t>(tokens[i]) + 1;
    if (i + 1 < sketch_run) continue;
    std::uint64_t mixed = (rolling ^ (rolling >> 32)) * 0xd6e8feb86659fd93ULL;
    mixed = (mixed ^ (mixed >> 32)) * 0xd6e8feb86659fd93ULL;
    hashes.push_back((mixed ^ (mixed >> 32)) >> 11);
  }
  return hashes;
}

/// The least of every sketch_run neighbouring hashes, about one of 16: enough to see any text of 2 sketch_run - 1 tokens
/// that is in another set too, wherever it stands there.
/// Source     winnowing (Schleimer, Wilkerson and Aiken 2003).
[[nodiscard]] inline std::vector<std::uint64_t> sketch_of(std::span<const std::int32_t> tokens) {
  const std::vector<std::uint64_t> hashes = run_hashes(tokens);
  std::set<std::uint64_t> least;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    const auto from = hashes.begin() + static_cast<std::ptrdiff_t>(i);
    const auto left = static_cast<std::size_t>(hashes.end() - from);
    if (i > 0 && left < sketch_run) break;  // a shorter window only where there is no whole one
    least.insert(*std::min_element(from, from + static_cast<std::ptrdiff_t>(std::min(left, sketch_run))));
  }
  return {least.begin(), least.end()};
}

/// Where a run of tokens starts that the sketched ones have, too.
[[nodiscard]] inline std::optional<std::size_t> find_overlap(std::span<const std::uint64_t> sketch,
                                                             std::span<const std::int32_t> tokens) {
  const std::set<std::uint64_t> known{sketch.begin(), sketch.end()};
  const std::vector<std::uint64_t> hashes = run_hashes(tokens);
  const auto found = std::ranges::find_if(hashes, [&](std::uint64_t each) { return known.contains(each); });
  if (found == hashes.end()) return std::nullopt;
  return static_cast<std::size_t>(found - hashes.begin());
}

}  // namespace programs
