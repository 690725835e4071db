#include <klens/metric/compare_rows.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <support/lengths.hpp>
#include <support/near.hpp>
#include <sweeps.hpp>
#include <vector>

// The same loops compiled for every instruction set that klens_dispatch holds, on as many of them as this machine has.
namespace {

using klens::row_sums;
using row = std::vector<float>;
constexpr row_sums everything =
    row_sums::kl | row_sums::reverse_kl | row_sums::js | row_sums::squared_error | row_sums::same_top;

std::vector<klens::detail::row_sweeps> others_here() {
  std::vector<klens::detail::row_sweeps> all{klens::detail::chosen_sweeps()};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(klens::detail::avx2_sweeps());
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")) all.push_back(klens::detail::avx512_sweeps());
  return all;
}

klens::row_damage compare(const klens::detail::row_sweeps& sweeps, const row& x, const row& y, row_sums needs) {
  const klens::reference_row known = klens::detail::describe_reference(sweeps, x);
  return klens::detail::row_comparison{sweeps, x, y, known}.measure(needs);
}

void expect_agreement(const row& x, const row& y) {
  // Both are within 1e-5 of the truth; what they share, polynomials above all, leaves less between them.
  const klens::row_damage plain = compare(klens::detail::sse2_sweeps(), x, y, everything);
  for (const auto& sweeps : others_here()) {
    const klens::row_damage other = compare(sweeps, x, y, everything);
    CHECK(other.kl == near{plain.kl, 1e-5, 1e-15});
    CHECK(other.reverse_kl == near{plain.reverse_kl, 1e-5, 1e-15});
    CHECK(other.js == near{plain.js, 1e-5, 1e-15});
    CHECK(other.squared_error == near{plain.squared_error, 1e-6});
    CHECK(other.reference_energy == near{plain.reference_energy, 1e-6});
    CHECK(other.same_top == plain.same_top);
    CHECK(compare(sweeps, x, y, row_sums::kl).kl == near{plain.kl, 1e-5, 1e-15});
  }
}

}  // namespace

TEST_CASE("instruction sets agree but for rounding") {
  std::mt19937 generator(1);
  std::normal_distribution<float> gauss;
  for (const std::size_t n : awkward_lengths())
    for (const float scale : {0.1f, 3.0f, 1e4f})
      for (const float by : {1e-4f, 0.3f, 20.0f})
        for (const bool masked : {false, true}) {
          CAPTURE(n);
          CAPTURE(scale);
          CAPTURE(by);
          CAPTURE(masked);
          row x(n), y(n);
          for (std::size_t i = 0; i < n; ++i) {
            x[i] = scale * gauss(generator);
            y[i] = x[i] + by * gauss(generator);
            if (masked && i % 7 == 3) x[i] = y[i] = -std::numeric_limits<float>::infinity();
          }
          expect_agreement(x, y);
        }
}

TEST_CASE("equal rows have no damage on any of them") {
  row x(1000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  for (const auto& sweeps : others_here()) CHECK(compare(sweeps, x, x, everything).kl == 0);
  CHECK(compare(klens::detail::sse2_sweeps(), x, x, everything).kl == 0);
}

TEST_CASE("the public functions use what was chosen for this processor") {
  row x(1000), y(1000);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(static_cast<float>(i));
    y[i] = x[i] + 0.01f * std::cos(static_cast<float>(7 * i));
  }
  const klens::row_damage damage = klens::compare_rows(x, y, klens::describe_reference(x), everything);
  CHECK(damage.kl == compare(klens::detail::chosen_sweeps(), x, y, everything).kl);
  const auto widest = others_here().back();
  CHECK((klens::detail::chosen_sweeps().compare == widest.compare));
}
