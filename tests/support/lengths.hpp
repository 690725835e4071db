#pragma once

#include <cstddef>
#include <vector>

/// Every length from 1 to five of the widest vectors (16 floats), and some beside the blocks that loops are cut into.
inline std::vector<std::size_t> awkward_lengths() {
  std::vector<std::size_t> all;
  for (std::size_t n = 1; n <= 5 * 16; ++n) all.push_back(n);
  for (const std::size_t n : {255, 256, 257, 1021, 1024, 1025, 2048}) all.push_back(n);
  return all;
}
