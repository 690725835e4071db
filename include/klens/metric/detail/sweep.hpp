#pragma once

#include <cstddef>
#include <klens/detail/simd.hpp>
#include <limits>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// Sums of float lanes in double: each lane is added to its own double after every block, before a float sum loses digits.
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
///   step.add(lanes, vectors...)    a vector of each row
///   step.filling                   a float for each row: what fills up the last vector where rows end within it
///   step.leave_out(lanes, from)    after that vector, alone in its block: the lanes from `from` on hold filling
///   step.take(lanes, end)          after every block; elements below `end` have been seen
/// One loop serves whole and filled vectors: compilers spend their time on loops.
template <class Arch, class Step, class... Rows>
[[gnu::noinline]] void sweep(Step& step, std::span<const float> first, const Rows&... others) noexcept {
  using vector = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  constexpr std::size_t count = 1 + sizeof...(Rows);
  const flush_subnormals quickly;
  const float* at[count] = {first.data(), others.data()...};
  alignas(vector) float filled[count][width];
  for (std::size_t seen = 0; seen < first.size();) {
    const std::size_t left = first.size() - seen;
    const bool is_filled = left < width;
    if (is_filled) {
      for (std::size_t r = 0; r < count; ++r) {
        for (std::size_t i = 0; i < width; ++i) filled[r][i] = i < left ? at[r][i] : step.filling[r];
        at[r] = filled[r];
      }
    }
    const std::size_t taken = is_filled ? width : left < 32 * width ? left - left % width : 32 * width;
    seen = is_filled ? first.size() : seen + taken;
    typename Step::lanes block;
    for (std::size_t i = 0; i < taken; i += width) {
      for (const float* row : at) prefetch(row + i, 4096);  // what the processor prefetches by itself ends too early here
      if constexpr (count == 1)
        step.add(block, vector::load_unaligned(at[0] + i));
      else
        step.add(block, vector::load_unaligned(at[0] + i), vector::load_unaligned(at[1] + i));
    }
    for (const float*& row : at) row += taken;
    if (is_filled) step.leave_out(block, left);
    step.take(block, seen);
  }
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
