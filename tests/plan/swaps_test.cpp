#include <klens/plan/swaps.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <limits>
#include <vector>

namespace {

klens::plan_unit unit(const char* name, std::vector<double> damages) {
  klens::plan_unit made{{name}, 8, {}};
  for (std::size_t c = 0; c < damages.size(); ++c)
    made.choices.push_back({{"s" + std::to_string(c)}, 4 * (c + 1), damages[c]});  // 4, 8, 12 bytes
  return made;
}

}  // namespace

TEST_CASE("best_swaps: every swap that fits, the least damage first, by hand") {
  const std::vector<klens::plan_unit> units{unit("a", {9, 4, 1}), unit("b", {5, 3, 2.5}), unit("c", {6, 5, 0})};
  const klens::allocation from = klens::allocation_of(units, {1, 1, 1});  // 24 bytes, damage 12
  // a up, b down: 1 + 5 + 5 = 11; a up, c down: 1 + 3 + 6 = 10; b up, a down: 9 + 2.5 + 5; b up, c down: 4 + 2.5 + 6 = 12.5;
  // c up, a down: 9 + 3 + 0 = 12; c up, b down: 4 + 5 + 0 = 9
  const std::vector<klens::allocation> found = klens::best_swaps(units, from, 24, 10);
  REQUIRE(found.size() == 3);
  CHECK(found[0].chosen == std::vector<std::size_t>{1, 0, 2});
  CHECK(found[0].damage == 9);
  CHECK(found[1].chosen == std::vector<std::size_t>{2, 1, 0});
  CHECK(found[2].chosen == std::vector<std::size_t>{1, 2, 0});
  for (const klens::allocation& each : found) CHECK(each.bytes == 24);
  CHECK(klens::best_swaps(units, from, 24, 1).size() == 1);
  CHECK(klens::best_swaps(units, from, 23, 10).empty());
}

TEST_CASE("best_swaps: choices that are on offer nowhere are passed over, and the ends of a unit's choices hold") {
  std::vector<klens::plan_unit> units{unit("a", {9, 4, 1}), unit("b", {5, 3, 2.5})};
  units[1].choices[0].damage = std::numeric_limits<double>::infinity();
  CHECK(klens::best_swaps(units, klens::allocation_of(units, {1, 1}), 16, 10).size() == 1);  // b up, a down
  CHECK(klens::best_swaps(units, klens::allocation_of(units, {2, 2}), 24, 10).empty());
  CHECK(klens::best_swaps(units, klens::allocation_of(units, {0, 1}), 12, 10).empty());
}
