#include <klens/metric/detail/sweep.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <support/lengths.hpp>
#include <vector>

namespace {

using arch = klens::detail::best_arch;
using vector = klens::detail::batch<float>;

/// Adds up products; small integers, so that every sum is exact.
struct product_step {
  struct lanes {
    vector sum = vector(0.0f);
  };
  klens::detail::wide_sum<arch> sum;
  std::vector<std::size_t> ends;

  static constexpr float filling[] = {3, 5};  // leave_out takes what they make away again
  void add(lanes& block, const vector& a, const vector& b) const { block.sum = xsimd::fma(a, b, block.sum); }
  void leave_out(lanes& block, std::size_t from) const {
    float all[vector::size];
    block.sum.store_unaligned(all);
    for (std::size_t i = from; i < vector::size; ++i) all[i] -= 15;
    block.sum = vector::load_unaligned(all);
  }
  void take(const lanes& block, std::size_t end) {
    sum.add(block.sum);
    ends.push_back(end);
  }
};

}  // namespace

TEST_CASE("a sweep sees every element once, in blocks that end where they say") {
  for (const std::size_t n : awkward_lengths()) {
    CAPTURE(n);
    std::vector<float> a(n), b(n);
    double expected = 0;
    for (std::size_t i = 0; i < n; ++i) {
      a[i] = static_cast<float>(i % 13);
      b[i] = static_cast<float>(i % 7) - 3;
      expected += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    product_step step;
    klens::detail::sweep<arch>(step, std::span<const float>(a), std::span<const float>(b));
    CHECK(step.sum.total() == expected);
    CHECK(step.ends.back() == n);
    CHECK(std::ranges::is_sorted(step.ends));
  }
}

TEST_CASE("wide sums do not lose small values beside large ones") {
  klens::detail::wide_sum<arch> sum;
  sum.add(vector(0x1p24f));
  for (int i = 0; i < 1000; ++i) sum.add(vector(1.0f));
  CHECK(sum.total() == static_cast<double>(vector::size) * (0x1p24 + 1000));
}

TEST_CASE("find_first: the first of equal elements, wherever vectors begin") {
  for (const std::size_t n : awkward_lengths()) {
    std::vector<float> row(n, 1.0f);
    CHECK(klens::detail::find_first<arch>(row, 2) == n);
    row[n - 1] = 2;
    CHECK(klens::detail::find_first<arch>(row, 2) == n - 1);
    row[n / 2] = 2;
    CHECK(klens::detail::find_first<arch>(row, 2) == n / 2);
  }
  CHECK(klens::detail::find_first<arch>({}, 2) == 0);
}

TEST_CASE("largest_of: every lane counts") {
  float lanes[vector::size];
  for (std::size_t i = 0; i < vector::size; ++i) {
    std::fill_n(lanes, vector::size, -std::numeric_limits<float>::infinity());
    lanes[i] = -3;
    CHECK(klens::detail::largest_of<arch>(vector::load_unaligned(lanes)) == -3);
  }
}
