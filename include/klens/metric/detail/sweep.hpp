#pragma once

#include <cstddef>
#include <klens/detail/simd.hpp>
#include <limits>
#include <span>

namespace klens::detail {

inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// What float lanes are emptied into before they lose digits.
template <class Arch>
class wide_sum {
 public:
  void add(const batch<float, Arch>& values) noexcept {
    alignas(batch<float, Arch>) float narrow[lanes<float, Arch>];
    values.store_aligned(narrow);
    for (std::size_t i = 0; i < lanes<float, Arch>; ++i) wide_[i] += static_cast<double>(narrow[i]);
  }
  [[nodiscard]] double total() const noexcept {
    double sum = 0;
    for (const double each : wide_) sum += each;
    return sum;
  }

 private:
  double wide_[lanes<float, Arch>] = {};
};

/// Runs over rows of equal length n >= 1, a vector of each at a time. The step's own `lanes` gather a block of 32 vectors, in
/// registers:
///   step.whole(lanes, vectors...)   full vectors
///   step.padded(lanes, vectors...)  the rest, filled up with -inf in every row
///   step.take(lanes, end)           after every block; elements below `end` have been seen
template <class Arch, class Step, class... Rows>
inline void sweep(Step& step, std::span<const float> first, const Rows&... others) noexcept {
  using vector = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  const flush_subnormals quickly;
  const std::size_t whole = first.size() - first.size() % width;
  std::size_t at = 0;
  while (at < whole) {
    const std::size_t end = whole - at < 32 * width ? whole : at + 32 * width;
    typename Step::lanes block;
    for (; at < end; at += width) {
      prefetch(first.data() + at, 4096);  // the processor's own prefetching does not look past a loop this long
      (prefetch(others.data() + at, 4096), ...);
      step.whole(block, vector::load_unaligned(first.data() + at), vector::load_unaligned(others.data() + at)...);
    }
    step.take(block, end);
  }
  if (whole == first.size()) return;
  const auto rest = [&](std::span<const float> row) {
    alignas(vector) float filled[width];
    for (std::size_t i = 0; i < width; ++i) filled[i] = whole + i < row.size() ? row[whole + i] : minus_infinity;
    return vector::load_aligned(filled);
  };
  typename Step::lanes block;
  step.padded(block, rest(first), rest(others)...);
  step.take(block, first.size());
}

template <class Arch>
[[nodiscard]] inline float largest_of(const batch<float, Arch>& values) noexcept {
  alignas(batch<float, Arch>) float each[lanes<float, Arch>];
  values.store_aligned(each);
  float largest = each[0];
  for (const float one : each) largest = one > largest ? one : largest;
  return largest;
}

/// The index of the first element equal to `value`; row.size() where there is none.
template <class Arch>
[[nodiscard]] inline std::size_t find_first(std::span<const float> row, float value) noexcept {
  using vector = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  std::size_t at = 0;
  while (at + width <= row.size() && !xsimd::any(vector::load_unaligned(row.data() + at) == vector(value))) at += width;
  while (at < row.size() && row[at] != value) ++at;
  return at;
}

}  // namespace klens::detail
