#include <klens/plan/exact.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>

#include "plan/units.hpp"

using klens::allocation;
using klens::exact;
using klens::plan_unit;
using tests::unit;

constexpr double infinity = std::numeric_limits<double>::infinity();

// Families that are hard in different ways, all small enough to try every allocation.
constexpr tests::random_family families[] = {
    {.name = "free", .units = 6, .choices = 5, .bytes = 1000, .damages = 1000},
    {.name = "few sizes, few damages: many ties", .units = 7, .choices = 4, .bytes = 3, .damages = 3},
    {.name = "equal damages", .units = 6, .choices = 4, .bytes = 50, .damages = 1},
    {.name = "zero bytes", .units = 6, .choices = 4, .bytes = 1, .damages = 50},
    {.name = "one choice", .units = 8, .choices = 1, .bytes = 50, .damages = 50},
    {.name = "negative damages", .units = 6, .choices = 4, .bytes = 50, .damages = 60, .lowest = -40},
    {.name = "forbidden choices", .units = 6, .choices = 4, .bytes = 50, .damages = 60, .forbidden = 0.4},
    {.name = "subset sum", .units = 7, .choices = 4, .bytes = 1000000, .damages = 1, .line = true},
    {.name = "large sizes", .units = 6, .choices = 4, .bytes = std::uint64_t{1} << 50, .damages = 1 << 20},
    {.name = "sizes with a common factor missing", .units = 7, .choices = 3, .bytes = 7, .damages = 100},
};

TEST_CASE("exact: a hand-computed case in which greedy is wrong") {
  // 10 bytes: greedy gives "a" its 6 bytes (1.0 a byte) and cannot afford "b"; both halves of "b" and "c" are worth more
  const std::vector<plan_unit> units{unit("a", {{"low", 0, 6}, {"high", 6, 0}}), unit("b", {{"low", 0, 4.5}, {"high", 5, 0}}),
                                     unit("c", {{"low", 0, 4.5}, {"high", 5, 0}})};
  const allocation best = exact{}(units, 10), other = klens::greedy{}(units, 10);
  CHECK(best.chosen == std::vector<std::size_t>{0, 1, 1});
  CHECK(best.bytes == 10);
  CHECK(best.damage == 6);
  CHECK(best.gap == 0);
  CHECK(other.damage == 9);
}

TEST_CASE("exact: equals brute force in damage and then in bytes, on 1000 small instances") {
  std::mt19937_64 random{8};
  for (const auto& family : families) {
    CAPTURE(family.name);
    for (int i = 0; i < 100; ++i) {
      CAPTURE(i);
      const std::vector<plan_unit> units = tests::random_units(family, random);
      const std::uint64_t low = klens::detail::smallest_choices(units).bytes,
                          high = klens::detail::mildest_choices(units).bytes;
      const std::uint64_t budget = low + random() % (high - low + 2);
      const auto truth = tests::brute_force(
          units, [&](const allocation& each) { return each.bytes <= budget; },
          [](const allocation& each) { return std::pair(each.damage, each.bytes); });
      const allocation found = exact{}(units, budget);
      REQUIRE(truth);
      REQUIRE(found.damage == truth->damage);
      REQUIRE(found.bytes == truth->bytes);
      REQUIRE(found.gap == 0);
    }
  }
}

TEST_CASE("exact: the smallest size under a limit equals brute force, on 1000 small instances") {
  std::mt19937_64 random{9};
  for (const auto& family : families) {
    CAPTURE(family.name);
    for (int i = 0; i < 100; ++i) {
      CAPTURE(i);
      const std::vector<plan_unit> units = tests::random_units(family, random);
      const double low = klens::detail::mildest_choices(units).damage, high = klens::detail::smallest_choices(units).damage;
      const double limit = low + (high - low) * static_cast<double>(random() % 65) / 64;
      const auto truth = tests::brute_force(
          units, [&](const allocation& each) { return each.damage <= limit; },
          [](const allocation& each) { return std::pair(each.bytes, each.damage); });
      const allocation found = exact{}.smallest(units, limit);
      REQUIRE(truth);
      REQUIRE(found.bytes == truth->bytes);
      REQUIRE(found.damage == truth->damage);
      REQUIRE(found.gap == 0);
    }
  }
}

TEST_CASE("exact: damages of any size, to the rounding of their sum") {
  std::mt19937_64 random{10};
  for (int i = 0; i < 200; ++i) {
    CAPTURE(i);
    std::vector<plan_unit> units;
    for (int u = 0; u < 6; ++u) {
      plan_unit made{{"layer" + std::to_string(u)}, 1, {}};
      for (int c = 0; c < 4; ++c)  // 1e-9 .. 10 nats, as INT8 and a broken scheme side by side
        made.choices.push_back({{"s"}, random() % 100, std::pow(10.0, static_cast<double>(random() % 1000) / 100 - 9)});
      units.push_back(made);
    }
    const std::uint64_t low = klens::detail::smallest_choices(units).bytes;
    const std::uint64_t budget = low + random() % 200;
    const auto truth = tests::brute_force(
        units, [&](const allocation& each) { return each.bytes <= budget; },
        [](const allocation& each) { return std::pair(each.damage, each.bytes); });
    const allocation found = exact{}(units, budget);
    REQUIRE(truth);
    // six roundings of the sum, six of differences, and half a multiple of 2^-59 six times over
    CHECK(std::abs(found.damage - truth->damage) <= 16 * std::numeric_limits<double>::epsilon() * truth->damage);
    CHECK(found.bytes <= budget);
  }
}

TEST_CASE("exact: of equal damage the fewest bytes, also where the search meets the larger plan first") {
  const std::vector<plan_unit> units{unit("a", {{"low", 7, 1}, {"high", 24, 0}}),
                                     unit("b", {{"low", 4, 3}, {"mid", 20, 2}, {"high", 24, 1}})};
  const allocation best = exact{}(units, 30);  // high with low takes 28 bytes, low with mid 27
  CHECK(best.damage == 3);
  CHECK(best.bytes == 27);
  CHECK(best.gap == 0);
}

TEST_CASE("exact: damages that differ by little more than the rounding of the sum are told apart") {
  // greedy takes "a" and stops; of b, c and d, two fit
  const std::vector<plan_unit> units{unit("a", {{"low", 0, 6}, {"high", 6, 0}}), unit("b", {{"low", 0, 4.5}, {"high", 5, 0}}),
                                     unit("c", {{"low", 0, 4.5 + 0x1p-50}, {"high", 5, 0}}),
                                     unit("d", {{"low", 0, 4.5 + 0x1p-49}, {"high", 5, 0}})};
  CHECK(exact{}(units, 10).chosen == std::vector<std::size_t>{0, 0, 1, 1});
}

TEST_CASE("exact: very small and very large damages keep their order") {
  for (const double scale : {1e-300, 1e-9, 1.0, 1e9, 1e300}) {
    CAPTURE(scale);
    const std::vector<plan_unit> units{unit("a", {{"low", 1, 3 * scale}, {"high", 2, 1 * scale}}),
                                       unit("b", {{"low", 1, 4 * scale}, {"high", 2, 1 * scale}})};
    CHECK(exact{}(units, 3).chosen == std::vector<std::size_t>{0, 1});
  }
  // a choice that breaks the model takes no accuracy from the others
  const std::vector<plan_unit> units{unit("a", {{"broken", 0, 1e12}, {"low", 1, 3e-9}, {"high", 2, 1e-9}}),
                                     unit("b", {{"broken", 0, 1e12}, {"low", 1, 3.0000001e-9}, {"high", 2, 1e-9}})};
  CHECK(exact{}(units, 3).chosen == std::vector<std::size_t>{1, 2});
}

TEST_CASE("exact: a limit that is somebody's own sum of damages can be met") {
  std::mt19937_64 random{11};
  for (int i = 0; i < 100; ++i) {
    const std::vector<plan_unit> units = tests::model_like_units(30, random);
    const allocation mildest = klens::detail::mildest_choices(units);
    CHECK(exact{}.smallest(units, mildest.damage).damage == mildest.damage);
    const allocation middle = exact{}(units, (mildest.bytes + klens::detail::smallest_choices(units).bytes) / 2);
    const allocation dual = exact{}.smallest(units, middle.damage);
    CHECK(dual.bytes == middle.bytes);
    CHECK(std::abs(dual.damage - middle.damage) <= 60 * std::numeric_limits<double>::epsilon() * middle.damage);
  }
}

TEST_CASE("exact: 2000 units with 8 choices each are proven") {
  std::mt19937_64 random{12};
  const std::vector<plan_unit> units = tests::model_like_units(2000, random);
  const std::uint64_t low = klens::detail::smallest_choices(units).bytes, high = klens::detail::mildest_choices(units).bytes;
  for (const double part : {0.0, 0.03, 0.2, 0.5, 0.9, 1.0}) {
    CAPTURE(part);
    const std::uint64_t budget = low + static_cast<std::uint64_t>(part * static_cast<double>(high - low));
    const allocation best = exact{}(units, budget);
    CHECK(best.bytes <= budget);
    CHECK(best.gap == 0);
    CHECK(best.damage <= klens::greedy{}(units, budget).damage);
    const allocation dual = exact{}.smallest(units, best.damage);
    CHECK(dual.bytes == best.bytes);
    CHECK(dual.gap == 0);
  }
}

TEST_CASE("exact: a search cut short says how far off it may be") {
  std::mt19937_64 random{13};
  int unproven = 0;
  for (int i = 0; i < 200; ++i) {
    const std::vector<plan_unit> units = tests::random_units(families[i % 2 ? 0 : 7], random);
    const std::uint64_t low = klens::detail::smallest_choices(units).bytes, high = klens::detail::mildest_choices(units).bytes;
    const std::uint64_t budget = low + (high - low) / 2;
    const allocation best = exact{}(units, budget), quick = exact{.state_limit = 3}(units, budget);
    CHECK(quick.bytes <= budget);
    CHECK(quick.damage >= best.damage);
    CHECK(quick.damage <= klens::greedy{}(units, budget).damage);
    CHECK(quick.damage - quick.gap <= best.damage);  // exact numbers: multiples of 1/64
    unproven += quick.gap > 0;
    const allocation small = exact{}.smallest(units, best.damage),
                     quick_small = exact{.state_limit = 3}.smallest(units, best.damage);
    CHECK(static_cast<double>(quick_small.bytes) - quick_small.gap <= static_cast<double>(small.bytes));
    CHECK(quick_small.damage <= best.damage);
  }
  CHECK(unproven > 20);  // otherwise nothing was tried here
}

TEST_CASE("exact: a subset sum too hard to prove still ends, with its gap") {
  std::mt19937_64 random{14};
  std::vector<plan_unit> units;
  for (int u = 0; u < 60; ++u) {
    plan_unit made{{"layer" + std::to_string(u)}, 1, {}};
    for (int c = 0; c < 4; ++c) {
      const std::uint64_t bytes = random() % 1'000'000'000'000;
      made.choices.push_back({{"s"}, bytes, 1e12 - static_cast<double>(bytes)});
    }
    units.push_back(made);
  }
  const std::uint64_t low = klens::detail::smallest_choices(units).bytes, high = klens::detail::mildest_choices(units).bytes;
  const allocation found = exact{.state_limit = 20000}(units, (low + high) / 2);
  CHECK(found.bytes <= (low + high) / 2);
  CHECK(found.gap > 0);
  CHECK(found.gap < 1e-6 * found.damage);
}

TEST_CASE("exact: nothing to decide") {
  const allocation none = exact{}({}, 0);
  CHECK(none.chosen.empty());
  CHECK(none.bytes == 0);
  CHECK(none.gap == 0);
  const std::vector<plan_unit> units{unit("a", {{"low", 4, 2}, {"high", 8, 1}})};
  CHECK(exact{}(units, std::numeric_limits<std::uint64_t>::max()).chosen == std::vector<std::size_t>{1});
  CHECK(exact{}(units, 4).chosen == std::vector<std::size_t>{0});
  CHECK(exact{}.smallest(units, infinity).chosen == std::vector<std::size_t>{0});
  CHECK(exact{}.smallest(units, 1).chosen == std::vector<std::size_t>{1});
}

TEST_CASE("exact: what cannot be met is refused with what can") {
  const std::vector<plan_unit> units{unit("a", {{"low", 4, 2}, {"high", 8, 1}}), unit("b", {{"only", 16, 0.5}})};
  CHECK_THROWS_WITH_AS((void)exact{}(units, 19), "plan: nothing fits 19 bytes; the smallest possible is 20 bytes",
                       klens::argument_error);
  CHECK_THROWS_WITH_AS((void)exact{}.smallest(units, 1.25),
                       "plan: no plan has a damage of at most 1.25; the least possible is 1.5", klens::argument_error);
  CHECK_THROWS_AS((void)exact{}.smallest(units, std::nan("")), klens::argument_error);
  // a small choice that is forbidden does not count as possible
  const std::vector<plan_unit> forbidden{unit("a", {{"low", 4, infinity}, {"high", 8, 1}})};
  CHECK_THROWS_WITH_AS((void)exact{}(forbidden, 7), "plan: nothing fits 7 bytes; the smallest possible is 8 bytes",
                       klens::argument_error);
  const std::vector<plan_unit> huge{unit("a", {{"low", 4, 1e308}, {"high", 8, 0}}),
                                    unit("b", {{"low", 4, 1e308}, {"high", 8, 0}})};
  CHECK_THROWS_AS((void)exact{}(huge, 8), klens::numeric_error);
}
