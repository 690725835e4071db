#include <klens/stats/interval.hpp>

#include <doctest/doctest.h>

#include <klens/detail/random.hpp>
#include <klens/error.hpp>
#include <limits>
#include <numbers>
#include <vector>

namespace {

using klens::contribution;
using sums = std::vector<contribution>;

double normal(klens::detail::random_stream& random) {
  const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
  return radius * std::cos(2 * std::numbers::pi * random.uniform());
}

// Sums over sequences of per-token values with mean 1 and the given spread, lognormal; `common` of the log's variance belongs
// to the sequence as a whole.
sums heavy_tailed(klens::detail::random_stream& random, std::size_t sequences, std::size_t tokens, double spread,
                  double common) {
  const double variance = std::log1p(spread * spread), scale = std::sqrt(variance);
  sums drawn;
  for (std::size_t s = 0; s < sequences; ++s) {
    const double shared = std::sqrt(common) * normal(random);
    double total = 0;
    for (std::size_t t = 0; t < tokens; ++t)
      total += std::exp(scale * (shared + std::sqrt(1 - common) * normal(random)) - variance / 2);
    drawn.emplace_back(total, static_cast<double>(tokens));
  }
  return drawn;
}

double coverage(std::size_t sequences, std::size_t tokens, double spread, double common, int repeats) {
  klens::detail::random_stream random{2024};
  int held = 0;
  for (int r = 0; r < repeats; ++r)
    held += klens::mean_interval(heavy_tailed(random, sequences, tokens, spread, common))->contains(1);
  return static_cast<double>(held) / repeats;
}

}  // namespace

TEST_CASE("interval: the mean is a ratio of sums") {
  CHECK(klens::mean_of(sums{{2, 1}, {4, 3}}) == 1.5);
  CHECK(std::isnan(klens::mean_of(sums{})));
  CHECK(klens::mean_of(sums{{1, 0}}) == klens::unbounded);  // SQNR without noise
}

TEST_CASE("interval: symmetric data give Student's t, computed by hand") {
  // values 1, 2, 3: mean 2, standard error 1/sqrt(3), t(0.975, 2 dof) = 4.302652729749464; no skewness
  const auto range = klens::mean_interval(sums{{1, 1}, {2, 1}, {3, 1}});
  REQUIRE(range);
  CHECK(std::abs(range->low - (2 - 4.302652729749464 / std::sqrt(3.0))) < 1e-11);
  CHECK(std::abs(range->high - (2 + 4.302652729749464 / std::sqrt(3.0))) < 1e-11);
}

TEST_CASE("interval: a skewed sample reaches further on the side of its tail, and never less than Student's t") {
  const sums skewed{{1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {9, 1}};
  const double mean = 2, error = 1, t = 2.364624251592785;  // seven degrees of freedom; squares about the mean: 7 * 1 + 49 = 56
  const auto range = klens::mean_interval(skewed);
  CHECK(std::abs(range->low - (mean - t * error)) < 1e-11);
  // Hall's inverse at -t, worked out in long hand: skewness sqrt(56)/6 * (336/8) / 7^1.5, a = skewness / sqrt(8)
  const double a = std::sqrt(56.0) / 6 * 42 / std::pow(7, 1.5) / std::sqrt(8.0);
  const double reached = 3 / a * (std::cbrt(1 + a * (-t - a / 6)) - 1);
  CHECK(std::abs(range->high - (mean - reached * error)) < 1e-11);
  CHECK(range->high - mean > 2 * (mean - range->low));
  sums mirrored = skewed;
  for (contribution& each : mirrored) each.value = -each.value;
  CHECK(std::abs(klens::mean_interval(mirrored)->low + range->high) < 1e-11);
}

TEST_CASE("interval: scales with the values, ignores how weights are counted, narrows with confidence") {
  const sums some{{1, 2}, {4, 3}, {3, 2}, {9, 5}, {2, 2}};
  sums scaled = some, weighted = some;
  for (contribution& each : scaled) each.value *= 8;
  for (contribution& each : weighted) each.weight *= 4;
  const auto range = klens::mean_interval(some);
  CHECK(klens::mean_interval(scaled)->high == 8 * range->high);
  CHECK(klens::mean_interval(weighted)->low == range->low / 4);
  CHECK(klens::mean_interval(some, 0.8)->high < range->high);
  CHECK(klens::mean_interval(some, 0.99)->high > range->high);
}

TEST_CASE("interval: sequences without a position that counts are passed over") {
  CHECK(klens::mean_interval(sums{{1, 1}, {2, 1}, {0, 0}, {4, 1}})->high ==
        klens::mean_interval(sums{{1, 1}, {2, 1}, {4, 1}})->high);
  CHECK_FALSE(klens::mean_interval(sums{{5, 2}, {0, 0}}));
}

TEST_CASE("interval: too little to tell") {
  CHECK_FALSE(klens::mean_interval(sums{}));
  CHECK_FALSE(klens::mean_interval(sums{{3, 2}}));
  const auto same = klens::mean_interval(sums{{3, 2}, {3, 2}, {3, 2}});
  CHECK(same->low == 1.5);
  CHECK(same->high == 1.5);
}

TEST_CASE("interval: ends at the least value that a mean can have") {
  const sums wide{{0.1, 1}, {2, 1}};
  CHECK(klens::mean_interval(wide)->low < 0);
  CHECK(klens::mean_interval(wide, 0.95, 0)->low == 0);
}

TEST_CASE("interval: an infinite sequence leaves the other end") {
  const double infinite = klens::unbounded;
  const sums finite{{1, 1}, {2, 1}, {3, 1}};
  sums with = finite;
  with.emplace_back(infinite, 1);
  const auto range = klens::mean_interval(with);
  CHECK(range->high == infinite);
  CHECK(range->low == klens::mean_interval(finite)->low);
  CHECK(klens::mean_interval(sums{{1, 1}, {infinite, 1}}, 0.95, 0)->low == 0);
  CHECK(klens::mean_interval(sums{{1, 1}, {-infinite, 1}})->low == -infinite);
  CHECK(klens::mean_interval(sums{{7, 0}, {5, 0}})->low == infinite);  // no noise at all: the ratio is infinite, and sure
}

TEST_CASE("interval: coverage on heavy-tailed values") {
  // docs/theory.md has the table. Of 2000 draws a share that is p in truth strays by more than 0.02 once in 10^4 at most.
  for (const double spread : {0.8, 2.0, 4.0, 6.0})
    for (const std::size_t sequences : {8, 16}) {
      const double held = coverage(sequences, 256, spread, 0, 2000);
      CAPTURE(spread);
      CAPTURE(sequences);
      CHECK(held > 0.93 - 0.013);
      CHECK(held < 0.97 + 0.013);
    }
  CHECK(coverage(8, 16, 2, 0, 4000) > 0.92);     // few tokens: 94 %
  CHECK(coverage(8, 256, 2, 0.3, 2000) > 0.92);  // tokens that depend on each other: 94 %
}

TEST_CASE("difference: pairs cancel what sequences have in common") {
  const sums a{{10, 1}, {22, 1}, {30, 1}, {42, 1}}, b{{9, 1}, {20, 1}, {29, 1}, {40, 1}};
  const auto apart = klens::difference_of(a, b);
  CHECK(apart.value == 1.5);  // 1, 2, 1, 2: standard error 1/sqrt(12), t(0.975, 3 dof) = 3.182446305284263
  CHECK(std::abs(apart.range->low - (1.5 - 3.182446305284263 / std::sqrt(12.0))) < 1e-10);
  CHECK_FALSE(apart.may_be_zero());
  CHECK(klens::mean_interval(a)->contains(klens::mean_of(b)));  // two intervals could not tell
}

TEST_CASE("difference: only common sequences, and what is infinite") {
  const sums longer{{10, 1}, {22, 1}, {1000, 1}}, shorter{{9, 1}, {20, 1}};
  CHECK(klens::difference_of(longer, shorter).value == 1.5);
  CHECK(klens::difference_of(shorter, longer).value == -1.5);
  CHECK(klens::difference_of(longer, sums{{1, 1}}).may_be_zero());
  CHECK_FALSE(klens::difference_of(longer, sums{{1, 1}}).range);
  const sums infinite{{1, 1}, {klens::unbounded, 1}};
  CHECK(klens::difference_of(infinite, shorter).range->low == 0);
  CHECK(klens::difference_of(infinite, infinite).range->low == -klens::unbounded);
  CHECK_FALSE(klens::difference_of(sums{{klens::unbounded, 1}}, shorter).range);
}

TEST_CASE("tie groups: by the first of the group") {
  const sums a{{10, 1}, {22, 1}, {30, 1}, {42, 1}}, b{{11, 1}, {20, 1}, {31, 1}, {40, 1}}, c{{1, 1}, {2, 1}, {3, 1}, {4, 1}};
  CHECK(klens::tie_groups(std::vector<klens::sequence_sums>{a, b, c}) == std::vector<std::size_t>{0, 0, 1});
  CHECK(klens::tie_groups(std::vector<klens::sequence_sums>{}).empty());
  // each cannot be told from the next, but the first can be told from the third
  const sums high{{10, 1}, {22, 1}, {30, 1}, {42, 1}}, middle{{9, 1}, {22.4, 1}, {29, 1}, {42.4, 1}},
      low{{8.5, 1}, {20.5, 1}, {28.5, 1}, {40.5, 1}};
  REQUIRE(klens::difference_of(middle, low).may_be_zero());
  CHECK(klens::tie_groups(std::vector<klens::sequence_sums>{high, middle, low}) == std::vector<std::size_t>{0, 0, 1});
  const sums one{{1, 1}};
  CHECK(klens::tie_groups(std::vector<klens::sequence_sums>{one, one}) == std::vector<std::size_t>{0, 1});
}

TEST_CASE("a confidence that is no share between 0 and 1 is refused, in words, wherever it is taken") {
  const std::vector<klens::contribution> two{{1, 2}, {3, 4}};
  const std::vector<klens::sequence_sums> ranked{two, two};
  for (const double confidence : {95.0, 1.0, 0.0, -0.5, std::numeric_limits<double>::quiet_NaN()}) {
    CAPTURE(confidence);
    CHECK_THROWS_WITH_AS((void)klens::mean_interval(two, confidence), doctest::Contains("it lies between 0 and 1"),
                         klens::argument_error);
    CHECK_THROWS_AS((void)klens::difference_of(two, two, confidence), klens::argument_error);
    CHECK_THROWS_AS((void)klens::tie_groups(ranked, confidence), klens::argument_error);
  }
  CHECK_THROWS_WITH((void)klens::mean_interval(two, 95), "a confidence of 95: it lies between 0 and 1, as 0.95 does");
}

TEST_CASE("standard_error: of equal weights the textbook's, NaN where there is no spread to see") {
  // Means 1, 2 and 6 over 2 positions each: variance 7 with n - 1, divided by 3 sequences.
  const std::vector<klens::contribution> three{{2, 2}, {4, 2}, {12, 2}};
  CHECK(std::abs(klens::standard_error(three) - std::sqrt(7.0 / 3)) <= 1e-15);
  const std::vector<klens::contribution> with_a_gap{{2, 2}, {0, 0}, {4, 2}, {12, 2}};  // a sequence that does not count
  CHECK(klens::standard_error(with_a_gap) == klens::standard_error(three));
  CHECK(std::isnan(klens::standard_error(std::span(three).first(1))));
}
