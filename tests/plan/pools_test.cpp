#include <klens/plan/pools.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <klens/plan/exact.hpp>
#include <klens/plan/greedy.hpp>
#include <string>
#include <vector>

#include "plan/units.hpp"

using klens::memory_pool;
using klens::plan_unit;
using tests::unit;

static const std::vector<plan_unit> four{
    unit("layers.0.up", {{"int4", 4, 9}, {"int8", 8, 0}}), unit("layers.1.up", {{"int4", 4, 5}, {"int8", 8, 0}}),
    unit("layers.0.down", {{"int4", 4, 1}, {"int8", 8, 0}}), unit("layers.1.down", {{"int4", 4, 2}, {"int8", 8, 0}})};

TEST_CASE("pools: each keeps its own budget, though more would be saved elsewhere") {
  const std::vector<memory_pool> pools{{"gpu", R"(\.up)", 12}, {"cpu", R"(\.down)", 12}};
  const klens::allocation found = klens::allocate(four, pools, klens::exact{});
  CHECK(found.chosen == std::vector<std::size_t>{1, 0, 0, 1});
  CHECK(found.bytes == 24);
  CHECK(found.damage == 6);
  CHECK(found.gap == 0);
  CHECK(klens::exact{}(four, 24).damage == 3);  // one pool of the same size
  CHECK(klens::allocate(four, pools, klens::greedy{}).chosen == found.chosen);
  CHECK(klens::allocate(four, pools, klens::greedy{}).gap > 1e300);
}

TEST_CASE("pools: with room for all in one pool it is the allocator itself") {
  CHECK(klens::allocate(four, std::vector<memory_pool>{{"all", "", 24}}, klens::exact{}).chosen ==
        klens::exact{}(four, 24).chosen);
}

TEST_CASE("pools: what belongs nowhere or twice, and budgets that cannot be, are named") {
  const auto refused = [](const std::vector<plan_unit>& units, const std::vector<memory_pool>& pools, const char* message) {
    CHECK_THROWS_WITH_AS((void)klens::allocate(units, pools, klens::exact{}), message, klens::argument_error);
  };
  refused(four, {{"gpu", "up", 12}}, "plan: layers.0.down is in no pool; give it one");
  refused(four, {{"gpu", "up", 12}, {"cpu", "layers", 12}}, "plan: layers.0.up is in two pools, gpu and cpu");
  refused(four, {{"all", "", 24}, {"cpu", "head", 12}}, "plan: 'head' matches no layer; compare it with their names");
  refused(four, {{"gpu", "up", 12}, {"cpu", "down", 7}},
          "pool cpu: plan: nothing fits 7 bytes; the smallest possible is 8 bytes");
  refused({{{"a.up", "b.down"}, 8, {{{"int4", "int4"}, 8, 0}}}}, {{"gpu", "up", 12}, {"cpu", "down", 12}},
          "plan: a.up and b.down share a scheme but not a pool");
  refused(four, {{"gpu", "[", 12}}, "plan: '[' is not a regular expression");
}
