#include <klens/metric/compare_rows.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <klens/detail/compiled.hpp>
#include <limits>
#include <random>
#include <support/lengths.hpp>
#include <support/near.hpp>
#include <vector>

// The loops over logits for every instruction set that klens::compiled holds, on as many of them as this machine has.
namespace {

using klens::row_sums;
using klens::compiled::kernels;
using row = std::vector<float>;
constexpr row_sums everything =
    row_sums::kl | row_sums::reverse_kl | row_sums::js | row_sums::squared_error | row_sums::same_top;

std::vector<const kernels*> all_here() {
  std::vector<const kernels*> all;
  for (const char* const name : {"sse2", "baseline", "avx2", "avx512"})
    if (const kernels* const found = klens::compiled::find(name)) all.push_back(found);
  return all;
}

klens::compiled::damage compare(const kernels& with, const row& x, const row& y, row_sums needs) {
  klens::compiled::reference known;
  CHECK(with.describe(x.data(), x.size(), known));
  klens::compiled::damage damage;
  CHECK(with.compare(x.data(), y.data(), x.size(), known, static_cast<unsigned>(needs), damage));
  return damage;
}

void expect_agreement(const row& x, const row& y) {
  // Both are within 1e-5 of the truth; what they share, polynomials above all, leaves less between them.
  const auto plain = compare(*all_here().front(), x, y, everything);
  for (const kernels* const each : all_here()) {
    INFO(each->instruction_set);
    const auto other = compare(*each, x, y, everything);
    CHECK(other.kl == near{plain.kl, 1e-5, 1e-15});
    CHECK(other.reverse_kl == near{plain.reverse_kl, 1e-5, 1e-15});
    CHECK(other.js == near{plain.js, 1e-5, 1e-15});
    CHECK(other.squared_error == near{plain.squared_error, 1e-6});
    CHECK(other.reference_energy == near{plain.reference_energy, 1e-6});
    CHECK(other.same_top == plain.same_top);
    CHECK(compare(*each, x, y, row_sums::kl).kl == near{plain.kl, 1e-5, 1e-15});
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
  for (const kernels* const each : all_here()) CHECK(compare(*each, x, x, everything).kl == 0);
}

TEST_CASE("the public functions use what was chosen for this processor") {
  row x(1000), y(1000);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(static_cast<float>(i));
    y[i] = x[i] + 0.01f * std::cos(static_cast<float>(7 * i));
  }
  const klens::row_damage damage = klens::compare_rows(x, y, klens::describe_reference(x), everything);
  const auto chosen = compare(klens::compiled::chosen(), x, y, everything);
  CHECK(damage.kl == chosen.kl);
  CHECK(damage.reverse_kl == chosen.reverse_kl);
  CHECK(damage.js == chosen.js);
  CHECK(damage.squared_error == chosen.squared_error);
  CHECK(damage.reference_energy == chosen.reference_energy);
  CHECK(damage.log_partition_change == chosen.log_partition_change);
  CHECK(damage.same_top == chosen.same_top);
  CHECK(&klens::compiled::chosen() == all_here().back());
  CHECK(klens::compiled::find("mmx") == nullptr);
}

TEST_CASE("rows that are no logits are refused by each of them") {
  for (const kernels* const each : all_here())
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
      for (const std::size_t n : {std::size_t{1}, std::size_t{50}})
        for (std::size_t at = 0; at < n; at += 7) {
          row x(n), y(n);
          y[at] = bad;
          klens::compiled::reference known;
          klens::compiled::damage damage;
          CHECK(each->describe(x.data(), n, known));
          CHECK_FALSE(each->compare(x.data(), y.data(), n, known, static_cast<unsigned>(row_sums::kl), damage));
          CHECK_FALSE(each->describe(y.data(), n, known));
        }
}
