#include <klens/stats/rank_correlation.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <vector>

namespace {
constexpr double missing = std::numeric_limits<double>::quiet_NaN();
double overlap(const std::vector<double>& a, const std::vector<double>& b, std::size_t count) {
  return klens::top_overlap(a, b, count).value;
}
}  // namespace

TEST_CASE("top_overlap: counted by hand") {
  const std::vector<double> a{9, 8, 7, 1, 2, 3}, b{9, 1, 8, 2, 7, 3};
  CHECK(overlap(a, b, 1) == 1);
  CHECK(overlap(a, b, 2) == 0.5);  // {0, 1} and {0, 2}
  CHECK(overlap(a, b, 3) == 2.0 / 3);
  CHECK(overlap(a, b, 6) == 1);
  CHECK(overlap(a, a, 4) == 1);
}

TEST_CASE("top_overlap: the last seat is shared among equals") {
  // the first list gives its second seat to candidate 1 or 2, the other to candidate 1
  CHECK(overlap({9, 5, 5, 1}, {9, 8, 2, 1}, 2) == (1 + 0.5) / 2);
  CHECK(overlap({1, 1, 1, 1}, {1, 1, 1, 1}, 2) == 0.5);  // two drawn blindly out of four
}

TEST_CASE("top_overlap: missing scores and impossible counts") {
  const auto found = klens::top_overlap(std::vector<double>{missing, 3, 2, 1}, std::vector<double>{9, 1, 3, 2}, 2);
  CHECK(found.value == 0.5);
  CHECK(found.used == 3);
  CHECK(found.left_out == 1);
  CHECK(std::isnan(overlap({1, 2}, {1, 2}, 0)));
  CHECK(std::isnan(overlap({1, 2}, {1, 2}, 3)));
  CHECK_THROWS_AS((void)overlap({1}, {1, 2}, 1), klens::shape_error);
}
