#include <klens/plan/tolerance.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include "plan/units.hpp"

using klens::plan_unit;
using klens::tolerance;
using tests::unit;

static const std::vector<plan_unit> three{unit("a", {{"fp16", 16, 0}, {"int8", 8, 0.1}, {"int4", 4, 3}}),
                                          unit("b", {{"int4", 4, 1}, {"fp16", 16, 0}}),
                                          unit("c", {{"fp16", 16, 0}, {"int4", 4, 2}})};

using steps = std::vector<std::vector<std::size_t>>;

TEST_CASE("tolerance: candidates in ascending damage, each kept or taken back") {
  steps asked;
  const std::vector<double> answers{10.2, 10.9, 11.5, 10.95};  // int8 of a, int4 of b, int4 of c, int4 of a
  const klens::measured_allocation result = tolerance{}(
      three,
      [&](std::span<const std::size_t> chosen) {
        asked.emplace_back(chosen.begin(), chosen.end());
        return answers.at(asked.size() - 1);
      },
      10.0);
  CHECK(asked == steps{{1, 1, 0}, {1, 0, 0}, {1, 0, 1}, {2, 0, 0}});
  CHECK(result.found.chosen == std::vector<std::size_t>{2, 0, 0});
  CHECK(result.found.bytes == 24);
  CHECK(result.measured == 10.95);
  CHECK(result.measurements == 4);
}

TEST_CASE("tolerance: the baseline does not drift along") {
  double perplexity = 10;
  int kept = 0;
  std::vector<plan_unit> units;
  for (int u = 0; u < 20; ++u) units.push_back(unit("layer" + std::to_string(u), {{"fp16", 2, 0}, {"int4", 1, 1.0 + u}}));
  // each layer costs 4 %: against a drifting baseline all would pass
  const klens::measured_allocation result = tolerance{}(
      units,
      [&](std::span<const std::size_t> chosen) {
        kept = static_cast<int>(std::ranges::count(chosen, 1U));
        perplexity = 10 * std::pow(1.04, kept);
        return perplexity;
      },
      10.0);
  CHECK(std::ranges::count(result.found.chosen, 1U) == 2);  // 1.04^2 = 1.0816, 1.04^3 = 1.125
  CHECK(result.measurements == 20);
}

TEST_CASE("tolerance: exactly at the limit is within it, NaN is not, and gamma is the caller's") {
  const std::vector<plan_unit> one{unit("a", {{"fp16", 2, 0}, {"int4", 1, 1}})};
  const auto measures = [](double value) { return [value](std::span<const std::size_t>) { return value; }; };
  CHECK(tolerance{.gamma = 1.5}(one, measures(15.0), 10.0).found.chosen.front() == 1);
  CHECK(tolerance{.gamma = 1.5}(one, measures(15.1), 10.0).found.chosen.front() == 0);
  CHECK(tolerance{.gamma = 1.5}(one, measures(15.1), 10.0).measured == 10.0);
  CHECK(tolerance{}(one, measures(std::nan("")), 10.0).found.chosen.front() == 0);
  CHECK(tolerance{}(one, measures(9.0), 10.0).found.chosen.front() == 1);
}

TEST_CASE("tolerance: a candidate that is no smaller than what is there is not measured") {
  // int4 (damage 1) comes before int8 (damage 2): the later one would only be larger
  const std::vector<plan_unit> one{
      unit("a", {{"fp16", 16, 0}, {"int8", 8, 2}, {"int4", 4, 1}, {"broken", 2, std::numeric_limits<double>::infinity()}})};
  const klens::measured_allocation result = tolerance{}(
      one, [](std::span<const std::size_t>) { return 10.0; }, 10.0);
  CHECK(result.found.chosen.front() == 2);
  CHECK(result.measurements == 1);
}

TEST_CASE("tolerance: numbers that mean nothing, and what the callable throws") {
  const auto same = [](std::span<const std::size_t>) { return 10.0; };
  CHECK_THROWS_WITH_AS((void)tolerance{.gamma = 0.9}(three, same, 10.0), "tolerance: gamma is 0.9; it must be 1 or more",
                       klens::argument_error);
  CHECK_THROWS_WITH_AS((void)tolerance{}(three, same, 0.5), "tolerance: the baseline is 0.5; a perplexity is 1 or more",
                       klens::argument_error);
  CHECK_THROWS_AS((void)tolerance{}(three, same, std::nan("")), klens::argument_error);
  CHECK_THROWS_AS((void)tolerance{}(
                      three, [](std::span<const std::size_t>) -> double { throw std::runtime_error{"no"}; }, 10.0),
                  std::runtime_error);
}
