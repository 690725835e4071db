#include <klens/metric/compare_rows.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <support/lengths.hpp>
#include <support/near.hpp>
#include <vector>

namespace {

using klens::row_sums;
using row = std::vector<float>;
constexpr row_sums everything =
    row_sums::kl | row_sums::reverse_kl | row_sums::js | row_sums::squared_error | row_sums::same_top;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

klens::row_damage compare(const row& x, const row& y, row_sums needs = everything) {
  return klens::compare_rows(x, y, klens::describe_reference(x), needs);
}

row random_row(unsigned seed, std::size_t n, float scale = 2) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> gauss(0, scale);
  row x(n);
  for (float& each : x) each = gauss(generator);
  return x;
}

int exact_sweeps = 0;

klens::detail::pair_sums counting(klens::detail::care how, row_sums needs, std::span<const float> x, std::span<const float> y,
                                  const klens::detail::anchor& from, std::size_t top) noexcept {
  exact_sweeps += how == klens::detail::care::exact ? 1 : 0;
  return klens::detail::chosen_sweeps().compare(how, needs, x, y, from, top);
}

/// How many of the slow, careful sweeps a comparison took.
int careful_sweeps(const row& x, const row& y, row_sums needs) {
  exact_sweeps = 0;
  const klens::detail::row_sweeps sweeps{klens::detail::chosen_sweeps().describe, counting};
  klens::reference_row known;
  CHECK(klens::detail::describe(sweeps.describe(x), x, known));
  CHECK(klens::detail::row_comparison{sweeps, x, y, known}.measure(needs));
  return exact_sweeps;
}

void expect_no_damage(const row& x, const row& y) {
  const klens::row_damage same = compare(x, y);
  CHECK(same.kl == 0);
  CHECK(same.reverse_kl == 0);
  CHECK(same.js == 0);
  CHECK(same.same_top);
}

}  // namespace

TEST_CASE("two tokens, by hand") {
  const row x{0, std::log(3.0f)}, y{0, 0};  // P = (1/4, 3/4), Q = (1/2, 1/2); the logit itself is off by 2e-8
  const klens::row_damage damage = compare(x, y);
  CHECK(damage.kl == near{0.130812035941137, 1e-6});          // 1/4 ln 1/2 + 3/4 ln 3/2
  CHECK(damage.reverse_kl == near{0.143841036225890, 1e-6});  // 1/2 ln 2 + 1/2 ln 2/3
  CHECK(damage.js == near{0.033822075568605, 1e-6});          // with M = (3/8, 5/8)
  CHECK(damage.log_partition_change == near{-0.693147180559945, 1e-6});
  CHECK(damage.squared_error == near{1.206948960812582, 1e-6});
  CHECK(damage.reference_energy == near{1.206948960812582, 1e-6});
  CHECK_FALSE(damage.same_top);  // of equal logits the first counts
}

TEST_CASE("a reference row is described") {
  const klens::reference_row known = klens::describe_reference(row{0, 3, -infinity, 3, 1});
  CHECK(known.top == 1);
  CHECK(known.log_sum_exp == near{3.781671823138, 1e-7});  // ln(1 + 2 e^3 + e)
  CHECK(known.energy == 19);
  CHECK(known.masked);
  CHECK_FALSE(klens::describe_reference(row{-5}).masked);
  CHECK(klens::describe_reference(row{-5}).log_sum_exp == -5);
  CHECK(klens::describe_reference(row{1e30f, 2e30f}).energy == near{5e60, 1e-6});  // above float, not above double
}

TEST_CASE("equal rows have exactly no damage") {
  for (const std::size_t n : awkward_lengths()) {
    CAPTURE(n);
    for (const float scale : {0.0f, 2.0f, 1e4f}) {
      const row x = random_row(1, n, scale);
      expect_no_damage(x, x);
      CHECK(compare(x, x).squared_error == 0);
      CHECK(compare(x, x).log_partition_change == 0);
    }
  }
}

TEST_CASE("a constant that float can add exactly is no damage") {
  for (const float shift : {0.25f, 5.0f, -3.0f, 1024.0f, -65536.0f}) {
    CAPTURE(shift);
    row x(1021), y(1021);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(i * 37 % 1021) / 64.0f - 8.0f;
      y[i] = x[i] + shift;  // exact: multiples of 1/64 below 2^17
    }
    expect_no_damage(x, y);
    CHECK(compare(x, y).log_partition_change == shift);
    CHECK(compare(x, y).squared_error == near{1021.0L * shift * shift, 1e-6});
  }
}

TEST_CASE("divergences ignore the order of tokens, but for rounding, and swap roles with the rows") {
  row x = random_row(2, 500), y = random_row(3, 500);
  const klens::row_damage forward = compare(x, y), backward = compare(y, x);
  CHECK(forward.kl == near{backward.reverse_kl, 2e-6});
  CHECK(forward.js == near{backward.js, 2e-6});
  CHECK(forward.log_partition_change == near{-backward.log_partition_change, 2e-6});
  CHECK(forward.js <= std::log(2.0));
  std::reverse(x.begin(), x.end());
  std::reverse(y.begin(), y.end());
  CHECK(compare(x, y).kl == near{forward.kl, 2e-6});
}

TEST_CASE("what is not asked for does not change what is") {
  const row x = random_row(4, 2048), y = random_row(5, 2048);
  const klens::row_damage all = compare(x, y);
  CHECK(compare(x, y, row_sums::kl).kl == near{all.kl, 1e-6});
  CHECK(compare(x, y, row_sums::kl).log_partition_change == near{all.log_partition_change, 1e-6});
  CHECK(compare(x, y, row_sums::reverse_kl).reverse_kl == all.reverse_kl);
  CHECK(compare(x, y, row_sums::js).js == all.js);
  CHECK(compare(x, y, row_sums::squared_error).squared_error == all.squared_error);
  CHECK(compare(x, y, row_sums::same_top).same_top == all.same_top);
}

TEST_CASE("results do not depend on where in memory rows begin") {
  const row x = random_row(6, 1000), y = random_row(7, 1000);
  const klens::row_damage expected = compare(x, y);
  for (std::size_t offset = 1; offset < 16; ++offset) {
    row later_x(offset), later_y(2 * offset);
    later_x.insert(later_x.end(), x.begin(), x.end());
    later_y.insert(later_y.end(), y.begin(), y.end());
    const auto moved_x = std::span<const float>(later_x).subspan(offset),
               moved_y = std::span<const float>(later_y).subspan(2 * offset);
    const klens::row_damage moved = klens::compare_rows(moved_x, moved_y, klens::describe_reference(moved_x), everything);
    CHECK(std::memcmp(&moved.kl, &expected.kl, sizeof(double)) == 0);
    CHECK(moved.reverse_kl == expected.reverse_kl);
    CHECK(moved.js == expected.js);
    CHECK(moved.squared_error == expected.squared_error);
  }
}

TEST_CASE("same_top: of equal logits the first counts") {
  for (const row_sums needs : {row_sums::same_top, row_sums::kl | row_sums::same_top, everything})
    for (const std::size_t n : {std::size_t{3}, std::size_t{64}, std::size_t{5000}})
      for (const std::size_t top : {std::size_t{1}, n / 2, n - 2}) {
        CAPTURE(n);
        CAPTURE(top);
        row x(n, -1.0f);
        x[top] = 2;
        row y = x;
        CHECK(compare(x, y, needs).same_top);
        for (const std::size_t after : {top + 1, n - 1}) {
          y = x;
          y[after] = 2;
          CHECK(compare(x, y, needs).same_top);
          y[after] = std::nextafter(2.0f, 3.0f);
          CHECK_FALSE(compare(x, y, needs).same_top);
        }
        for (const std::size_t before : {std::size_t{0}, top - 1}) {
          y = x;
          y[before] = 2;
          CHECK_FALSE(compare(x, y, needs).same_top);
          y[before] = std::nextafter(2.0f, 0.0f);
          CHECK(compare(x, y, needs).same_top);
          row tied_x = x;
          tied_x[before] = 2;  // now `before` is the reference's first
          CHECK(compare(tied_x, x, needs).same_top == false);
        }
      }
}

TEST_CASE("masked tokens") {
  const row x{1, 2, 3, 0.5f}, y{1.5f, 2, 2.5f, 0};
  row x_mask = x, y_mask = y;
  x_mask[1] = y_mask[1] = -infinity;
  SUBCASE("in both rows: as if the token were not there") {
    const klens::row_damage masked = compare(x_mask, y_mask), without = compare({1, 3, 0.5f}, {1.5f, 2.5f, 0});
    CHECK(masked.kl == near{without.kl, 1e-6});
    CHECK(masked.reverse_kl == near{without.reverse_kl, 1e-6});
    CHECK(masked.js == near{without.js, 1e-6});
    CHECK(masked.squared_error == without.squared_error);
    CHECK(masked.reference_energy == without.reference_energy);
    CHECK(masked.log_partition_change == near{without.log_partition_change, 1e-6});
    expect_no_damage(x_mask, x_mask);
  }
  SUBCASE("in observed alone") {
    const klens::row_damage masked = compare(x, y_mask);
    CHECK(masked.kl == infinity);
    CHECK(std::isfinite(masked.reverse_kl));
    CHECK(masked.reverse_kl > 0);
    CHECK(masked.js == near{0.102986454389563, 1e-6});
    CHECK(masked.squared_error == infinity);
  }
  SUBCASE("in reference alone") {
    const klens::row_damage masked = compare(x_mask, y);
    CHECK(masked.reverse_kl == infinity);
    CHECK(std::isfinite(masked.kl));
    CHECK(masked.kl > 0);
    CHECK(std::isfinite(masked.log_partition_change));
    CHECK(masked.js == near{0.129703576943747, 1e-6});
  }
  SUBCASE("the reference's top token, in observed") {
    row lost = y;
    lost[2] = -infinity;
    CHECK(compare(x, lost).kl == infinity);
    CHECK_FALSE(compare(x, lost).same_top);
    CHECK_FALSE(compare(x, lost, row_sums::same_top).same_top);
  }
  SUBCASE("even where the other row's probability is 0 in any precision") {
    CHECK(compare({0, -1e4f}, {0, -infinity}).kl == infinity);
    CHECK(compare({0, -infinity}, {0, -1e4f}).reverse_kl == infinity);
    CHECK(compare({0, -infinity}, {0, -1e4f}).kl == near{0, 0, 1e-37});
  }
  SUBCASE("disjoint rows") {
    const klens::row_damage apart = compare({0, -infinity}, {-infinity, 0});
    CHECK(apart.kl == infinity);
    CHECK(apart.reverse_kl == infinity);
    CHECK(apart.js == near{0.693147180559945, 1e-6});
  }
}

TEST_CASE("bad logits are refused, whatever is measured") {
  const auto message = [](const auto& call) {
    try {
      call();
    } catch (const klens::numeric_error& caught) {
      return std::string{caught.what()};
    }
    return std::string{"nothing was thrown"};
  };
  for (const std::size_t n : {1, 5, 16, 100, 3000})
    for (const std::size_t at : {std::size_t{0}, n / 2, n - 1}) {
      CAPTURE(n);
      CAPTURE(at);
      const row good = random_row(8, n);
      for (const float bad : {not_a_number, infinity, -not_a_number}) {
        row with = good;
        with[at] = bad;
        const std::string what = " logit " + std::to_string(at) + " of " + std::to_string(n) + " is " +
                                 (std::isnan(bad) ? "NaN" : "+inf") + "; logits must be finite, or -inf where masked";
        CHECK(message([&] { (void)klens::describe_reference(with); }) == "reference" + what);
        for (const row_sums needs : {row_sums::none, row_sums::squared_error, row_sums::kl, row_sums::js, everything}) {
          CHECK(message([&] { (void)compare(good, with, needs); }) == "observed" + what);
          row masked = good;
          masked[n - 1] = -infinity;  // the masked path, unless nothing is left
          if (at != n - 1) {
            with[n - 1] = -infinity;
            CHECK(message([&] { (void)compare(masked, with, needs); }) == "observed" + what);
            with[n - 1] = good[n - 1];
          }
        }
      }
      CHECK(message([&] { (void)compare(good, row(n, -infinity)); }) ==
            "every observed logit is -inf; leave at least one token unmasked");
      CHECK(message([&] { (void)klens::describe_reference(row(n, -infinity)); }) ==
            "every reference logit is -inf; leave at least one token unmasked");
    }
}

TEST_CASE("rows of different length and empty rows are refused") {
  const row x{1, 2};
  const klens::reference_row known = klens::describe_reference(x);
  CHECK_THROWS_WITH_AS((void)klens::compare_rows(x, row{1, 2, 3}, known, everything),
                       "the reference row has 2 logits, the observed row 3; give as many of each, at least one",
                       klens::shape_error);
  CHECK_THROWS_AS((void)klens::compare_rows({}, {}, known, everything), klens::shape_error);
  CHECK_THROWS_AS((void)klens::describe_reference({}), klens::shape_error);
}

TEST_CASE("squares too large for float") {
  const row x{1e25f, 0}, y{-1e25f, 0};
  const klens::row_damage damage = compare(x, y, row_sums::squared_error | row_sums::same_top);
  CHECK(damage.squared_error == near{4e50, 1e-6});
  CHECK_FALSE(damage.same_top);
  CHECK(compare(x, y).kl == near{1e25, 1e-6});
}

TEST_CASE("what layers do to logits takes one sweep, with masks that both rows share as well") {
  constexpr row_sums without_js = row_sums::kl | row_sums::reverse_kl | row_sums::squared_error | row_sums::same_top;
  for (const std::size_t n : {31, 1000, 2048})
    for (const float by : {1e-4f, 1e-2f, 0.3f}) {
      CAPTURE(n);
      CAPTURE(by);
      row x = random_row(9, n), y = random_row(10, n, by);
      for (std::size_t i = 0; i < n; ++i) y[i] += x[i];
      for (const row_sums needs : {row_sums::none, row_sums::kl, row_sums::squared_error, without_js})
        CHECK(careful_sweeps(x, y, needs) == 0);
      CHECK(careful_sweeps(x, y, everything) == 1);  // Jensen-Shannon has its own
      for (std::size_t i = 3 * n / 4; i < n; ++i) x[i] = y[i] = -infinity;
      CHECK(careful_sweeps(x, y, row_sums::kl) == 0);
      CHECK(careful_sweeps(x, y, without_js) == 0);
      y[n - 1] = 0;
      CHECK(careful_sweeps(x, y, without_js) == 1);
    }
}
