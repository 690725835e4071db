#include <klens/metric/compare_rows.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <support/lengths.hpp>
#include <support/near.hpp>
#include <support/reference_metrics.hpp>
#include <vector>

namespace {

using klens::row_sums;
constexpr row_sums everything =
    row_sums::kl | row_sums::reverse_kl | row_sums::js | row_sums::squared_error | row_sums::same_top;
using row = std::vector<float>;

class noise {
 public:
  explicit noise(unsigned seed) : generator_(seed) {}
  float operator()() { return gauss_(generator_); }
  std::size_t below(std::size_t n) { return generator_() % n; }

 private:
  std::mt19937 generator_;
  std::normal_distribution<float> gauss_;
};

/// The promise: relative error of KL and reverse KL below 1e-5 wherever they are above 1e-10 nats, never negative. What is
/// smaller may be off by 1e-15.
void compare_with_textbook(const row& x, const row& y) {
  const klens::row_damage measured = klens::compare_rows(x, y, klens::describe_reference(x), everything);
  const reference_metrics expected = textbook(x, y);
  CHECK(measured.kl == near{expected.kl, 1e-5, 1e-15});
  CHECK(measured.reverse_kl == near{expected.reverse_kl, 1e-5, 1e-15});
  CHECK(measured.js == near{expected.js, 1e-5, 1e-15});
  CHECK(measured.kl >= 0);
  CHECK(measured.reverse_kl >= 0);
  CHECK(measured.js >= 0);
  CHECK(measured.squared_error == near{expected.squared_error, 1e-6});
  CHECK(measured.reference_energy == near{expected.energy, 1e-6});
  CHECK(measured.same_top == expected.same_top);
  const long double spread = std::min(std::sqrt(2 * std::abs(expected.kl)), 1.0L);  // about that of y - x
  CHECK(measured.log_partition_change == near{expected.log_partition_change, 1e-15, 1e-8 + 1e-5 * static_cast<double>(spread)});

  const klens::row_damage alone = klens::compare_rows(x, y, klens::describe_reference(x), row_sums::kl);
  CHECK(alone.kl == near{expected.kl, 1e-5, 1e-15});
}

row random_row(noise& gauss, std::size_t n, float scale) {
  row x(n);
  for (float& each : x) each = scale * gauss();
  return x;
}

row moved(noise& gauss, row x, float by, float shift = 0) {
  for (float& each : x) each += by * gauss() + shift;
  return x;
}

}  // namespace

TEST_CASE("rows of every kind and awkward length agree with the textbook in long double") {
  noise gauss{1};
  for (const std::size_t n : awkward_lengths())
    for (const float scale : {0.0f, 2.0f, 15.0f, 1e4f})  // flat, ordinary, peaked, huge
      for (const float by : {1e-4f, 1e-2f, 0.3f, 3.0f, 60.0f})
        for (const float shift : {0.0f, 5.0f, -300.0f}) {
          CAPTURE(n);
          CAPTURE(scale);
          CAPTURE(by);
          CAPTURE(shift);
          const row x = random_row(gauss, n, scale);
          compare_with_textbook(x, moved(gauss, x, by, shift));
        }
}

TEST_CASE("every family of rows at every length") {
  noise gauss{10};
  std::vector<std::size_t> lengths{50257, 65537};
  for (const std::size_t n : awkward_lengths()) lengths.push_back(n);
  const float never = -std::numeric_limits<float>::infinity();
  for (const std::size_t n : lengths) {
    CAPTURE(n);
    const std::size_t here = gauss.below(n), there = gauss.below(n);
    const auto expect = [&](const char* family, const row& x, const row& y) {
      CAPTURE(family);
      compare_with_textbook(x, y);
    };
    for (const float by : {0.3f, 1e-4f, 6.0f}) {
      if (n > 5000 && by != 0.3f) break;  // long double is slow on some machines
      CAPTURE(by);
      const row ordinary = random_row(gauss, n, 2), flat(n, 1.5f), peaked = random_row(gauss, n, 15);
      expect("ordinary", ordinary, moved(gauss, ordinary, by));
      expect("peaked", peaked, moved(gauss, peaked, by));
      expect("flat", flat, moved(gauss, flat, by));
      expect("shifted", ordinary, moved(gauss, ordinary, by, -300));
      const row huge = random_row(gauss, n, 1e4f);
      expect("huge", huge, moved(gauss, huge, by));

      row sparse(n, -60.0f);
      for (std::size_t i = 0; i < n; i += 1 + n / 7) sparse[i] = gauss();
      expect("sparse", sparse, moved(gauss, sparse, by));
      row subnormal(n, -95.0f);
      subnormal[here] = 0;
      expect("subnormal", subnormal, moved(gauss, subnormal, by));
      row masked = ordinary;
      for (std::size_t i = 0; i < n; i += 3)
        if (i != here) masked[i] = never;
      expect("masked", masked, moved(gauss, masked, by));

      row dominant = ordinary, falls = moved(gauss, ordinary, by);
      dominant[here] = 20;
      falls[here] = -15;
      expect("a dominant token falls", dominant, falls);
      expect("a dominant token rises", falls, dominant);
      row elsewhere = ordinary;
      elsewhere[there] = 30;
      expect("all mass moves", dominant, elsewhere);
      row across = ordinary;
      for (std::size_t i = 0; i < n; ++i) across[i] += (i % 2 == 0 ? 1.5f : -1.5f) * (1 + by * gauss());
      expect("across the switch of the series", ordinary, across);
    }
  }
}

TEST_CASE("a part of a flat row moves: roundings that all go the same way") {
  for (const std::size_t n : {256, 1008, 1024, 3984})
    for (const double part : {0.03, 0.12, 0.14, 0.2, 0.5, 0.88, 0.97})
      for (const float by : {4e-3f, -0.0345667f, -0.12f, 1.0f, 4.5f, -10.0f, 12.0f, 64.3f, -227.0f}) {
        CAPTURE(n);
        CAPTURE(part);
        CAPTURE(by);
        const row x(n, 0.0f);
        row y = x;
        std::fill_n(y.begin(), static_cast<std::ptrdiff_t>(part * static_cast<double>(n)), by);
        compare_with_textbook(x, y);
      }
}

TEST_CASE("one token moves") {
  noise gauss{3};
  for (const std::size_t n : {2, 17, 1021, 50257})
    for (const float scale : {0.0f, 2.0f, 12.0f})
      for (const float by : {1e-3f, -1e-3f, 0.1f, 1.0f, -1.0f, 10.0f, -10.0f, 60.0f, -60.0f, 500.0f, -500.0f}) {
        CAPTURE(n);
        CAPTURE(scale);
        CAPTURE(by);
        const row x = random_row(gauss, n, scale);
        const auto top = static_cast<std::size_t>(std::max_element(x.begin(), x.end()) - x.begin());
        for (const std::size_t which : {top, std::size_t{0}, n - 1}) {
          CAPTURE(which);
          row y = x;
          y[which] += by;
          compare_with_textbook(x, y);
        }
      }
}

TEST_CASE("a dominant token, with and without noise on the others") {
  noise gauss{4};
  for (const float lead : {5.0f, 20.0f, 30.0f, 80.0f, 120.0f})
    for (const float by : {0.0f, 1e-3f, 1.0f})
      for (const float top_by : {0.0f, 0.5f, -2.0f, -20.0f, -35.0f, -90.0f}) {
        CAPTURE(lead);
        CAPTURE(by);
        CAPTURE(top_by);
        row x = random_row(gauss, 1021, 1);
        x[400] = lead;
        row y = moved(gauss, x, by);
        y[400] = lead + top_by;
        compare_with_textbook(x, y);
      }
}

TEST_CASE("all mass moves to another token") {
  for (const float height : {3.0f, 19.0f, 21.0f, 39.0f, 41.0f, 87.0f, 200.0f, 1e4f}) {
    CAPTURE(height);
    row x(33, 0.0f), y(33, 0.0f);
    x[3] = height;
    y[30] = height;
    compare_with_textbook(x, y);
    compare_with_textbook(y, x);
  }
}

TEST_CASE("differences on both sides of every switch") {
  for (const float switch_at : {0.25f, 1.0f, 1.5f, 8.0f, 40.0f, 87.0f})
    for (const float step : {-1e-3f, -1e-6f, 0.0f, 1e-6f, 1e-3f})
      for (const float sign : {-1.0f, 1.0f}) {
        CAPTURE(switch_at);
        CAPTURE(step);
        CAPTURE(sign);
        noise gauss{5};
        const row x = random_row(gauss, 100, 1);
        const auto top = static_cast<std::size_t>(std::max_element(x.begin(), x.end()) - x.begin());
        row y = x;
        for (std::size_t i = 0; i < y.size(); ++i)
          if (i != top) y[i] += (i % 2 != 0 ? sign : -sign) * switch_at * (1 + step);
        compare_with_textbook(x, y);
      }
}

TEST_CASE("probabilities too small for float") {
  noise gauss{6};
  for (const float depth : {80.0f, 87.0f, 88.0f, 95.0f, 103.0f, 110.0f, 1e3f}) {
    CAPTURE(depth);
    row x(50, -depth);
    x[7] = 0;
    x[11] = -1;
    compare_with_textbook(x, moved(gauss, x, 0.1f));
    row y = x;
    for (std::size_t i = 20; i < 50; ++i) y[i] += depth - 5;  // comes up
    compare_with_textbook(x, y);
    compare_with_textbook(y, x);
  }
}

TEST_CASE("masked rows: the same tokens in both") {
  noise gauss{7};
  for (const std::size_t n : {2, 16, 31, 1021, 2048})
    for (const float by : {1e-4f, 0.3f, 5.0f}) {
      CAPTURE(n);
      CAPTURE(by);
      row x = random_row(gauss, n, 2);
      for (std::size_t i = 0; i < n; ++i)
        if (i != n / 2 && (gauss.below(3) == 0 || i > 3 * n / 4)) x[i] = -std::numeric_limits<float>::infinity();
      compare_with_textbook(x, moved(gauss, x, by));
    }
}

TEST_CASE("masked rows: other tokens in each") {
  noise gauss{8};
  const float never = -std::numeric_limits<float>::infinity();
  for (const std::size_t n : {3, 16, 40, 1021}) {
    CAPTURE(n);
    const row x = random_row(gauss, n, 2);
    const row y = moved(gauss, x, 0.1f);
    row masked_y = y;
    masked_y[n / 2] = never;
    compare_with_textbook(x, masked_y);
    row masked_x = x;
    masked_x[n / 2] = never;
    compare_with_textbook(masked_x, y);
    row other_y = y;
    other_y[0] = never;
    compare_with_textbook(masked_x, other_y);
    masked_x[n / 2] = -1e4f;  // not masked, though its probability is 0 in any precision
    compare_with_textbook(masked_x, masked_y);
    compare_with_textbook(masked_y, masked_x);
  }
}

TEST_CASE("quiet layers: a small damage under a large common shift") {
  noise gauss{9};
  for (const float shift : {0.01f, 1.0f, 30.0f, 1000.0f, -2e4f})
    for (const float by : {2e-5f, 1e-4f, 1e-3f, 1e-2f})
      for (const float scale : {0.1f, 3.0f, 9.0f}) {
        CAPTURE(shift);
        CAPTURE(by);
        CAPTURE(scale);
        const row x = random_row(gauss, 500, scale);
        compare_with_textbook(x, moved(gauss, x, by, shift));
      }
}
