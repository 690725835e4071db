#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/instruction_set.hpp>
#include <numbers>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A seeded stream of random numbers that is the same on every machine and with every standard library (SplitMix64: Steele, Lea
/// and Flood 2014). Streams of the same seed and different `which` are independent for all that klens does with them.
class random_stream {
 public:
  explicit random_stream(std::uint64_t seed, std::uint64_t which = 0) noexcept : state_{mixed(mixed(seed) + which)} {}

  /// 64 random bits.
  [[nodiscard]] std::uint64_t bits() noexcept { return mixed(state_ += 0x9e3779b97f4a7c15ULL); }

  /// A whole number below `bound`, which is not 0; its bias, bound / 2^64, is far below what anyone could see.
  [[nodiscard]] std::size_t below(std::size_t bound) noexcept { return static_cast<std::size_t>(bits() % bound); }

  /// In [0, 1).
  [[nodiscard]] double uniform() noexcept { return static_cast<double>(bits() >> 11) * 0x1p-53; }

  /// Of mean 0 and variance 1, normally distributed (G. E. P. Box and M. E. Muller, 1958).
  [[nodiscard]] double normal() noexcept {
    const double length = std::sqrt(-2 * std::log(1 - uniform()));
    return length * std::cos(2 * std::numbers::pi * uniform());
  }

  /// Puts them in a random order (R. A. Fisher and F. Yates, 1938).
  template <class Value>
  void shuffle(std::vector<Value>& values) noexcept {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  [[nodiscard]] static std::uint64_t mixed(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

}  // namespace klens::detail
