#pragma once
// Rows through a quantizer, and whether they are the same to the last bit.

#include <cstring>
#include <vector>

namespace support {

using row = std::vector<float>;

template <class Quantizer>
[[nodiscard]] row kept_by(const Quantizer& quantizer, const row& weights) {
  row kept(weights.size());
  quantizer.round_trip(weights, kept);
  return kept;
}

[[nodiscard]] inline bool same_bits(const row& a, const row& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace support
