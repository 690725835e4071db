#include <klens/plan/greedy.hpp>
#include "share.hpp"
#include "threshold.hpp"
// first: the headers stand alone
#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <klens/plan/exact.hpp>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "plan/units.hpp"

using klens::allocation;
using klens::plan_unit;
using tests::unit;

struct throws_away {  // what an allocator of one's own takes
  static constexpr std::string_view name = "smallest";
  allocation operator()(std::span<const plan_unit> units, std::uint64_t) const {
    return klens::detail::smallest_choices(units);
  }
};
static_assert(klens::allocator<throws_away>);

// "012": the choice of each unit.
static std::string choices(const allocation& of) {
  std::string text;
  for (const std::size_t each : of.chosen) text += std::to_string(each);
  return text;
}

TEST_CASE("greedy: takes the change that saves most per byte, then the next that fits") {
  const std::vector<plan_unit> units{unit("a", {{"low", 2, 10}, {"mid", 4, 4}, {"high", 8, 0}}),  // 3 a byte, then 1
                                     unit("b", {{"low", 2, 5}, {"high", 4, 1}})};                 // 2 a byte
  const klens::greedy greedy;
  CHECK(choices(greedy(units, 4)) == "00");
  CHECK(choices(greedy(units, 6)) == "10");
  CHECK(choices(greedy(units, 8)) == "11");
  CHECK(choices(greedy(units, 11)) == "11");
  CHECK(choices(greedy(units, 12)) == "21");
  CHECK(greedy(units, 12).damage == 1);
  CHECK(greedy(units, 12).bytes == 12);
}

TEST_CASE("greedy: a change that no longer fits makes room for a smaller one of the same unit") {
  // "high" saves 2.5 a byte but costs 4; after "b" only 2 are left
  const std::vector<plan_unit> units{unit("a", {{"low", 0, 10}, {"mid", 2, 7}, {"high", 4, 0}}),
                                     unit("b", {{"low", 0, 10}, {"high", 2, 0}})};
  CHECK(choices(klens::greedy{}(units, 4)) == "11");
}

TEST_CASE("greedy: a milder choice of the same size is free") {
  const std::vector<plan_unit> units{unit("a", {{"low", 2, 10}, {"as small", 2, 4}}),
                                     unit("b", {{"low", 0, 1}, {"high", 0, -1}})};
  CHECK(choices(klens::greedy{}(units, 2)) == "11");
}

TEST_CASE("threshold: the smallest choice below the limit") {
  const std::vector<plan_unit> units{unit("a", {{"low", 2, 10}, {"mid", 4, 4}, {"high", 8, 1}}),
                                     unit("b", {{"low", 2, 5}, {"high", 4, 3}})};
  const klens::threshold threshold;
  CHECK(choices(threshold.at(units, 10)) == "00");
  CHECK(choices(threshold.at(units, 5)) == "10");
  CHECK(choices(threshold.at(units, 3.5)) == "21");
  CHECK(choices(threshold.at(units, 2)) == "21");  // "b" has nothing as mild: its mildest
  CHECK(choices(threshold(units, 11)) == "11");    // 8 bytes at the limit 4, 12 at 3
  CHECK(choices(threshold(units, 12)) == "21");
  CHECK(choices(threshold(units, 4)) == "00");
  CHECK(choices(threshold(units, 1000)) == "21");
}

TEST_CASE("share: the units that mind least, until their weights reach the ratio") {
  // weights 10, 20, 30, 40; damages of the small choice 4, 3, 2, 1
  std::vector<plan_unit> units;
  for (std::uint64_t u = 0; u < 4; ++u) {
    units.push_back(unit(std::string(1, static_cast<char>('a' + u)),
                         {{"int4", 10 + u, 4.0 - static_cast<double>(u)}, {"int8", 20 + u, 0}}));
    units.back().weights = 10 * (u + 1);
  }
  const klens::share share;
  CHECK(choices(share.at(units, 0)) == "1111");
  CHECK(choices(share.at(units, 0.4)) == "1111");  // the first would reach it
  CHECK(choices(share.at(units, 0.5)) == "1110");
  CHECK(choices(share.at(units, 0.95)) == "1000");
  CHECK(choices(share.at(units, 1)) == "0000");
  CHECK(choices(share(units, 86)) == "1111");
  CHECK(choices(share(units, 85)) == "1110");
  CHECK(choices(share(units, 46)) == "0000");
  CHECK_THROWS_WITH_AS((void)share.at(units, 1.5), "share: the ratio is 1.5; it must lie between 0 and 1",
                       klens::argument_error);
  CHECK_THROWS_AS((void)share.at(units, std::nan("")), klens::argument_error);
}

TEST_CASE("allocators: all keep the budget, and none beats the exact one") {
  std::mt19937_64 random{3};
  for (int i = 0; i < 20; ++i) {
    const std::vector<plan_unit> units = tests::model_like_units(300, random);
    const std::uint64_t low = klens::detail::smallest_choices(units).bytes, high = klens::detail::mildest_choices(units).bytes;
    const std::uint64_t budget = low + random() % (high - low);
    const allocation best = klens::exact{}(units, budget);
    for (const allocation& other :
         {klens::greedy{}(units, budget), klens::threshold{}(units, budget), klens::share{}(units, budget)}) {
      CHECK(other.bytes <= budget);
      CHECK(other.damage >= best.damage);
    }
  }
}

TEST_CASE("allocators: what makes no sense is refused by each") {
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const auto each_refuses = [](const std::vector<plan_unit>& units, const char* message) {
    CHECK_THROWS_WITH((void)klens::exact{}(units, 100), message);
    CHECK_THROWS_WITH((void)klens::exact{}.smallest(units, 100), message);
    CHECK_THROWS_WITH((void)klens::greedy{}(units, 100), message);
    CHECK_THROWS_WITH((void)klens::threshold{}(units, 100), message);
    CHECK_THROWS_WITH((void)klens::share{}(units, 100), message);
  };
  each_refuses({unit("q", {{"int4", 1, nan}})}, "plan: the damage of q under int4 is NaN; score it again or leave it out");
  each_refuses({unit("q", {{"int4", 1, -infinity}})},
               "plan: the damage of q under int4 is -inf; score it again or leave it out");
  each_refuses({unit("q", {{"int4", 1, infinity}})}, "plan: q has no candidate with a finite damage; score it first");
  each_refuses({unit("q", {})}, "plan: q has no candidate with a finite damage; score it first");
  each_refuses({unit("q", {{"int4", 1, 0}}), unit("q", {{"int4", 1, 0}})}, "plan: layer q appears twice; keep one of them");
  each_refuses({{{}, 1, {}}}, "plan: a unit without layers");
  each_refuses({{{"q", "k"}, 1, {{{"int4"}, 1, 0}}}}, "plan: q (+1) has 2 layers, a choice 1 schemes");
  each_refuses({unit("q", {{"int4", std::uint64_t{1} << 60, 0}})}, "plan: the size of q is not a size");
  each_refuses({unit("q", {{"int4", std::uint64_t{3} << 58, 0}}), unit("k", {{"int4", std::uint64_t{3} << 58, 0}})},
               "plan: the sizes add up to more than 2^60 bytes");
  const std::vector<plan_unit> units{unit("q", {{"int4", 7, 1}})};
  for (const char* message : {"plan: nothing fits 6 bytes; the smallest possible is 7 bytes"}) {
    CHECK_THROWS_WITH_AS((void)klens::greedy{}(units, 6), message, klens::argument_error);
    CHECK_THROWS_WITH_AS((void)klens::threshold{}(units, 6), message, klens::argument_error);
    CHECK_THROWS_WITH_AS((void)klens::share{}(units, 6), message, klens::argument_error);
  }
  CHECK_THROWS_WITH_AS((void)klens::allocation_of(units, {}), "allocation: 0 choices for 1 units", klens::shape_error);
  CHECK_THROWS_WITH_AS((void)klens::allocation_of(units, {1}), "allocation: choice 1 of unit 0, which has 1",
                       klens::argument_error);
}

// A trained hybrid's single-layer KLs (tests/data), each layer in int4, int8 or fp16.
static std::vector<plan_unit> trained_model_units() {
  std::ifstream stream{std::string{KLENS_TEST_DATA} + "/truth-calibration.json"};
  const nlohmann::json truth = nlohmann::json::parse(stream);
  std::vector<plan_unit> units;
  for (const nlohmann::json& each : truth.at("layers")) {
    const std::string scheme = each.at("scheme");
    if (scheme == "int4-signed-g64-f32") continue;
    const std::uint64_t rows = each.at("shape").at(0), columns = each.at("shape").at(1);
    if (units.empty() || units.back().layers.front() != each.at("name"))
      units.push_back({{each.at("name").get<std::string>()}, rows * columns, {{{"fp16"}, 2 * rows * columns, 0}}});
    const std::uint64_t row_bytes = scheme == "int4-channel-f32" ? (columns + 1) / 2 : columns;
    units.back().choices.push_back({{scheme}, rows * (row_bytes + 4), each.at("kl").get<double>()});
  }
  return units;
}

TEST_CASE("allocators: on a trained hybrid the exact plan predicts less damage than every other, at each budget") {
  const std::vector<plan_unit> units = trained_model_units();
  REQUIRE(units.size() == 57);
  std::uint64_t weights = 0;
  for (const plan_unit& each : units) weights += each.weights;
  for (const double bits : {4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 10.0, 12.0, 14.0}) {
    const auto budget = static_cast<std::uint64_t>(bits * static_cast<double>(weights) / 8);
    const allocation best = klens::exact{}(units, budget), greedy = klens::greedy{}(units, budget);
    const allocation threshold = klens::threshold{}(units, budget), share = klens::share{}(units, budget);
    MESSAGE(bits << " bits/weight: exact " << best.damage << ", greedy " << greedy.damage << ", threshold " << threshold.damage
                 << ", share " << share.damage << " nats/token");
    CHECK(best.gap == 0);
    CHECK(best.damage <= greedy.damage);
    CHECK(best.damage < threshold.damage);
    CHECK(best.damage < share.damage);
  }
}
