#pragma once
// The quantizers once more, from their definitions: one weight after the other, no code of klens'.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace reference {

/// fp16 by looking the number up: of the two neighbours in the list of all its numbers the nearer one, of equally near ones the
/// even.
inline float nearest_fp16(float value) {
  static const std::vector<double> all = [] {
    std::vector<double> numbers;
    for (int bits = 0; bits <= 0x7c00; ++bits)  // the last stands for what would follow 65504
      numbers.push_back(bits < 0x400 ? std::ldexp(bits, -24) : std::ldexp(1024 + bits % 1024, bits / 1024 - 25));
    return numbers;
  }();
  const double magnitude = std::abs(static_cast<double>(value));
  const auto above = std::lower_bound(all.begin(), all.end(), magnitude);
  if (above == all.end()) return std::copysign(INFINITY, value);
  auto nearest = above;
  if (above != all.begin()) {
    const double up = *above - magnitude, down = magnitude - *(above - 1);
    if (down < up || (down == up && (above - all.begin()) % 2 != 0)) nearest = above - 1;
  }
  if (nearest == all.end() - 1) return std::copysign(INFINITY, value);
  return std::copysign(static_cast<float>(*nearest), value);
}

/// bf16: a float whose significand, an integer of 24 bits, is rounded to a multiple of 2^16.
inline float nearest_bf16(float value) {
  if (value == 0) return value;
  const int exponent = std::max(std::ilogb(value), -126) - 7;  // of the last bit that is kept
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(value), -exponent)), exponent));
}

struct stored_row {
  std::vector<int> codes;  // as numbers, not as bits
  std::vector<float> scales;
  std::vector<int> zeros;
  std::vector<float> kept;
};

enum class grid { absmax, signed_, asym };

/// klens::integer; a group size of 0 is the whole row.
inline stored_row integer(const std::vector<float>& row, int bits, grid where, std::size_t group_size, bool fp16_scale) {
  stored_row stored;
  const int half = 1 << (bits - 1);
  for (std::size_t first = 0; first < row.size();) {
    const std::size_t end = group_size == 0 ? row.size() : std::min(row.size(), first + group_size);
    float highest = 0, lowest = 0;
    for (std::size_t i = first; i < end; ++i) highest = std::max(highest, row[i]), lowest = std::min(lowest, row[i]);
    float scale = 0;
    int zero = 0, least = 0, most = 0;
    if (where == grid::absmax) {
      most = half - 1, least = -most;
      scale = std::max(highest, -lowest) / static_cast<float>(half - 1);
    } else if (where == grid::signed_) {
      most = half - 1, least = -half;
      scale = (-lowest >= highest ? -lowest : -highest) / static_cast<float>(half);
    } else {
      most = 2 * half - 1;
      scale = (highest - lowest) / static_cast<float>(most);
      if (scale != 0) zero = std::clamp(static_cast<int>(std::nearbyint(-lowest / scale)), 0, most);
    }
    if (scale == 0) scale = 0;  // +0 also where it comes from the negative side
    const float kept_scale = fp16_scale ? nearest_fp16(scale) : scale;
    for (std::size_t i = first; i < end; ++i) {
      const float quotient = scale == 0 ? 0 : row[i] / scale;
      const int code = std::clamp(static_cast<int>(std::nearbyint(quotient + static_cast<float>(zero))), least, most);
      stored.codes.push_back(code);
      stored.kept.push_back(static_cast<float>(code - zero) * kept_scale);
    }
    stored.scales.push_back(kept_scale);
    stored.zeros.push_back(zero);
    first = end;
  }
  return stored;
}

/// klens::q4_0, q5_0 and q8_0, for rows of whole blocks.
inline stored_row gguf(const std::vector<float>& row, int bits) {
  stored_row stored;
  for (std::size_t first = 0; first < row.size(); first += 32) {
    float largest = 0;
    for (std::size_t i = first; i < first + 32; ++i)
      if (std::abs(row[i]) > std::abs(largest)) largest = row[i];
    const int half = 1 << (bits - 1);
    const float scale = bits != 8 ? largest / static_cast<float>(-half) : std::abs(largest) / 127,
                kept_scale = nearest_fp16(scale);
    const float inverse = scale == 0 || std::isinf(1 / scale) ? 0 : 1 / scale;
    for (std::size_t i = first; i < first + 32; ++i) {
      const volatile float steps = row[i] * inverse;  // rounded to float before anything is added
      const volatile float shifted = steps + (static_cast<float>(half) + 0.5f);
      const int code =
          bits != 8 ? std::min(2 * half - 1, static_cast<int>(shifted)) - half : static_cast<int>(std::round(steps));
      stored.codes.push_back(code);
      stored.kept.push_back(static_cast<float>(code) * kept_scale);
    }
    stored.scales.push_back(kept_scale);
  }
  return stored;
}

}  // namespace reference

/// The same numbers in every run and on every machine.
class splitmix {
 public:
  explicit splitmix(std::uint64_t seed) : state_{seed} {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)
  float bell() {                                                            // mean 0, spread 0.58
    double sum = -2;
    for (int i = 0; i < 4; ++i) sum += uniform();
    return static_cast<float>(sum);
  }

 private:
  std::uint64_t state_;
};

/// Rows of all kinds: like trained weights, with outliers, skewed, one-sided, of exact ties, with zeros of both signs, near the
/// ends of float's range (subnormal ones included), constant, empty of anything but zeros.
inline std::vector<std::vector<float>> rows_of_all_kinds(std::size_t length, std::uint64_t seed) {
  splitmix random{seed};
  std::vector<std::vector<float>> rows;
  const auto add = [&](auto weight) {
    std::vector<float> row(length);
    for (float& w : row) w = static_cast<float>(weight());
    rows.push_back(row);
  };
  add([&] { return 0.05f * random.bell(); });
  add([&] { return random.uniform() < 0.02 ? 3 * random.bell() : 0.05f * random.bell(); });
  add([&] { return 0.05f * random.bell() + 0.03f; });
  add([&] { return random.uniform(); });
  add([&] { return -random.uniform(); });
  add([&] { return std::trunc(random.uniform() * 31 - 15) * 0.5f; });    // ties where the scale is 1
  add([&] { return std::trunc(random.uniform() * 511 - 255) * 0.5f; });  // the same for 8 bits
  add([&] {
    const float tie = static_cast<float>(static_cast<int>(random.uniform() * 15 - 7)) * 0.5f;
    return std::nextafter(tie, random.bell());
  });
  add([&] { return random.uniform() < 0.7 ? (random.uniform() < 0.5 ? 0.0f : -0.0f) : random.bell(); });
  add([&] { return 1e-30f * random.bell(); });
  add([&] { return 1e-39f * random.bell(); });
  add([&] { return 1.401298464e-45f * static_cast<float>(static_cast<int>(random.uniform() * 23 - 11)); });
  add([&] { return 60000.0f * random.bell(); });
  add([&] { return 0.25f; });
  add([&] { return -0.25f; });
  add([&] { return random.uniform() < 0.5 ? 1.0f : -1.0f; });
  add([&] { return 0.0f; });
  return rows;
}
