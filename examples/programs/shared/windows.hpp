#pragma once
// How the methods local and refine look at calibration text: in windows shorter than its sequences, so that the few which they
// look at see much of it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/random.hpp>
#include <numeric>
#include <span>
#include <vector>

namespace programs {

/// So many tokens of a sequence, from one on.
struct window {
  std::size_t sequence = 0;
  std::size_t first = 0;
};

/// Windows of one length, in an order drawn by the seed.
struct window_order {
  /// Those shorter miss what longer contexts do, and intervals do not know it.
  static constexpr std::size_t least_context = 128;

  std::size_t length = 0;
  std::vector<window> order = {};

  /// Up to four out of each sequence, and none below `least` tokens unless the sequences are. Tokens beyond a whole number of them
  /// are left out.
  [[nodiscard]] static window_order of(std::size_t sequences, std::size_t of_length, std::size_t least, std::uint64_t seed) {
    const std::size_t from_each = std::clamp<std::size_t>(of_length / least, 1, 4);
    window_order made{of_length / from_each};
    for (std::size_t each = 0; each < sequences * from_each; ++each)
      made.order.push_back({each / from_each, each % from_each * made.length});
    klens::random_stream{seed}.shuffle(made.order);
    return made;
  }
};

/// How many windows are looked at first: those with a sixteenth of the positions that count, and with as many as two windows have on
/// average, whatever the padding. `counted` has how many count in each window.
[[nodiscard]] inline std::size_t windows_to_look_at(std::span<const std::size_t> counted) {
  constexpr std::size_t share = 16, least = 2;
  const std::size_t positions = std::accumulate(counted.begin(), counted.end(), std::size_t{0});
  const std::size_t wanted = std::max(positions / share, least * positions / std::max<std::size_t>(counted.size(), 1));
  std::size_t seen = 0, count = 0;
  while (count < counted.size() && seen < wanted) seen += counted[count++];
  return count;
}

}  // namespace programs
