#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <klens/detail/exp.hpp>
#include <klens/metric/detail/sweep.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// What two sweeps say of one row. Nothing but `masked` holds where no logit is finite or one is NaN or +inf.
struct row_summary {
  double masked = 0;     // how many logits are -inf; NaN where one is NaN or +inf
  std::size_t top = 0;   // the first index of the largest
  double partition = 0;  // sum of e^(x - x_top)
  double energy = 0;     // sum of x^2 over the others; infinite where that is too large for float
};

template <class Arch>
struct largest_step {
  using vector = batch<float, Arch>;
  struct lanes {
    vector largest = vector(minus_infinity);
    vector masked = vector(0.0f);  // the filling of the last vector included
  };
  static constexpr float filling[] = {minus_infinity};
  vector largest = vector(minus_infinity);
  wide_sum<Arch> masked;

  void add(lanes& block, const vector& x) const noexcept {
    block.largest = xsimd::max(block.largest, x);
    block.masked += xsimd::select(x == vector(minus_infinity), vector(1.0f), x * vector(0.0f));
  }
  void leave_out(lanes&, std::size_t) const noexcept {}
  void take(const lanes& block, std::size_t) noexcept {
    largest = xsimd::max(largest, block.largest);
    masked.add(block.masked);
  }
};

template <class Arch>
struct partition_step {
  using vector = batch<float, Arch>;
  struct lanes {
    vector partition = vector(0.0f);
    vector energy = vector(0.0f);
  };
  explicit partition_step(float of_top) noexcept : top(of_top) {}

  static constexpr float filling[] = {minus_infinity};
  vector top;
  wide_sum<Arch> partition;
  wide_sum<Arch> energy;

  void add(lanes& block, const vector& x) const noexcept {
    const auto masked = x == vector(minus_infinity);
    block.partition += xsimd::select(masked, vector(0.0f), lean_exp<Arch>(x - top));
    const vector shown = xsimd::select(masked, vector(0.0f), x);
    block.energy = xsimd::fma(shown, shown, block.energy);
  }
  void leave_out(lanes&, std::size_t) const noexcept {}
  void take(const lanes& block, std::size_t) noexcept {
    partition.add(block.partition);
    energy.add(block.energy);
  }
};

template <class Arch>
[[nodiscard]] row_summary describe_row(std::span<const float> row) noexcept {
  largest_step<Arch> first;
  sweep<Arch>(first, row);
  const std::size_t width = lanes<float, Arch>;
  row_summary summary;
  summary.masked = first.masked.total() - static_cast<double>((width - row.size() % width) % width);
  if (!(summary.masked < static_cast<double>(row.size()))) return summary;
  const float top = largest_of<Arch>(first.largest);
  partition_step<Arch> second{top};
  sweep<Arch>(second, row);
  summary.top = find_first<Arch>(row, top);
  summary.partition = second.partition.total();
  summary.energy = second.energy.total();
  return summary;
}

}  // namespace klens::detail
