#include <klens/plan/local_search.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <cmath>
#include <klens/plan/exact.hpp>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "plan/units.hpp"

using klens::local_search;
using klens::measured_allocation;
using klens::plan_unit;
using tests::unit;

// Two of three layers can be in int8.
static const std::vector<plan_unit> three{unit("a", {{"int4", 4, 3}, {"int8", 8, 0}}),
                                          unit("b", {{"int4", 4, 2.9}, {"int8", 8, 0}}),
                                          unit("c", {{"int4", 4, 2.8}, {"int8", 8, 0}})};

TEST_CASE("local search: finds a pair that is worth more together than its sum says") {
  // b and c amplify each other: both in int4 costs 4 more than predicted
  const auto measure = [](std::span<const std::size_t> chosen) {
    double damage = 0;
    for (std::size_t u = 0; u < 3; ++u) damage += three[u].choices[chosen[u]].damage;
    return damage + (chosen[0] == 0 && chosen[2] == 0 ? 4 : 0);
  };
  const klens::allocation start = klens::allocation_of(three, {0, 1, 0});
  const measured_allocation best = local_search{}(three, 20, start, measure);
  CHECK(best.found.chosen == std::vector<std::size_t>{1, 1, 0});
  CHECK(best.found.bytes == 20);
  CHECK(best.measured == 2.8);
}

TEST_CASE("local search: keeps the start where nothing measures better, and asks for no allocation twice") {
  std::set<std::vector<std::size_t>> asked;
  const klens::allocation start = klens::exact{}(three, 20);
  const measured_allocation best = local_search{}(three, 20, start, [&](std::span<const std::size_t> chosen) {
    CHECK(asked.emplace(chosen.begin(), chosen.end()).second);
    CHECK(klens::allocation_of(three, {chosen.begin(), chosen.end()}).bytes <= 20);
    return 1.0;
  });
  CHECK(best.found.chosen == start.chosen);
  CHECK(best.measured == 1);
  CHECK(asked.size() == best.measurements);
  CHECK(asked.size() == 3);  // the start, and a with either of the others exchanged
}

TEST_CASE("local search: never worse than its start, within the budget and the number of measurements") {
  std::mt19937_64 random{5};
  for (int i = 0; i < 20; ++i) {
    const std::vector<plan_unit> units = tests::model_like_units(40, random);
    const std::uint64_t low = klens::detail::smallest_choices(units).bytes, high = klens::detail::mildest_choices(units).bytes;
    const std::uint64_t budget = low + (high - low) / 8;
    std::set<std::vector<std::size_t>> asked;
    const auto measure = [&](std::span<const std::size_t> chosen) {  // neighbours interact
      CHECK(asked.emplace(chosen.begin(), chosen.end()).second);
      double damage = 0;
      for (std::size_t u = 0; u < units.size(); ++u) {
        const double own = units[u].choices[chosen[u]].damage;
        damage += own + (u ? std::sqrt(own * units[u - 1].choices[chosen[u - 1]].damage) * (u % 3 ? 0.5 : -0.5) : 0);
      }
      return damage;
    };
    const klens::allocation start = klens::exact{}(units, budget);
    const double before = measure(start.chosen);
    asked.clear();
    const measured_allocation best = local_search{.measurements = 60}(units, budget, start, measure);
    CHECK(best.measured <= before);
    asked.clear();
    CHECK(best.measured == measure(best.found.chosen));
    asked.clear();
    CHECK(best.found.bytes <= budget);
    CHECK(best.measurements <= 61);
    CHECK(local_search{.measurements = 0}(units, budget, start, measure).found.chosen == start.chosen);
  }
}

TEST_CASE("local search: fills room that the prediction saw no use for") {
  const std::vector<plan_unit> one{unit("a", {{"int4", 4, 1}, {"int8", 8, 0.5}})};
  const auto measure = [](std::span<const std::size_t> chosen) { return chosen[0] == 1 ? 0.2 : 0.4; };
  CHECK(local_search{}(one, 8, klens::allocation_of(one, {0}), measure).found.chosen.front() == 1);
  CHECK(local_search{}(one, 7, klens::allocation_of(one, {0}), measure).found.chosen.front() == 0);
}

TEST_CASE("local search: NaN is never better, a start above the budget is refused") {
  const auto nan = [](std::span<const std::size_t> chosen) { return chosen[0] == 1 ? 1.0 : std::nan(""); };
  CHECK(local_search{}(three, 20, klens::allocation_of(three, {1, 1, 0}), nan).found.chosen ==
        std::vector<std::size_t>{1, 1, 0});
  CHECK_THROWS_WITH_AS((void)local_search{}(three, 19, klens::allocation_of(three, {1, 1, 0}), nan),
                       "local search: the start takes 20 bytes, the budget is 19", klens::argument_error);
}
