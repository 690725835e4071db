#include <klens/rank/ranking.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {

struct known {
  const char* layer;
  double low, mean, high;
};

klens::scores scores_of(const std::vector<known>& layers, bool higher_is_worse = true) {
  klens::scores all;
  all.metrics = {{"m", "", higher_is_worse}};
  for (const known& each : layers) {
    klens::layer_score one;
    one.layer = each.layer;
    one.scheme = "s";
    one.positions = 1;
    one.result = klens::outcome::measured;
    one.metrics.resize(1);
    one.metrics[0].low = each.low;
    one.metrics[0].mean = each.mean;
    one.metrics[0].high = each.high;
    all.candidates.push_back(one);
  }
  return all;
}

}  // namespace

TEST_CASE("rank_ranges: intervals that overlap leave places open") {
  const klens::scores all = scores_of({{"a", 8, 9, 10}, {"b", 4, 6, 8.5}, {"c", 3, 5, 7}, {"d", 0, 1, 2}});
  const auto ranges = klens::rank_ranges(all, "m", "s");
  REQUIRE(ranges.size() == 4);
  CHECK(ranges[0].candidate->layer == "a");
  CHECK(ranges[0].first == 0);
  CHECK(ranges[0].last == 1);
  CHECK(ranges[1].first == 0);
  CHECK(ranges[1].last == 2);
  CHECK(ranges[2].first == 1);
  CHECK(ranges[2].last == 2);
  CHECK(ranges[3].first == 3);
  CHECK(ranges[3].last == 3);
}

TEST_CASE("rank_ranges: in the metric's own direction, and without intervals by the mean") {
  const double none = klens::metric_score::unknown;
  const klens::scores all = scores_of({{"quiet", none, 40, none}, {"loud", none, 10, none}}, false);
  const auto ranges = klens::rank_ranges(all, "m", "s");
  CHECK(ranges[0].candidate->layer == "loud");
  CHECK(ranges[0].last == 0);
  CHECK(ranges[1].first == 1);
}

TEST_CASE("ranked_differently: only beyond both ranges") {
  const klens::scores one = scores_of({{"a", 8, 9, 10}, {"b", 5, 6, 7}, {"c", 1, 2, 3}});
  CHECK(klens::ranked_differently(one, one, "m", "s").empty());
  const klens::scores swapped = scores_of({{"a", 1, 2, 3}, {"b", 5, 6, 7}, {"c", 8, 9, 10}});
  CHECK(klens::ranked_differently(one, swapped, "m", "s") == std::vector<std::string>{"a", "c"});
  const klens::scores unsure = scores_of({{"a", 0, 2, 10}, {"b", 0, 6, 10}, {"c", 0, 9, 10}});
  CHECK(klens::ranked_differently(one, unsure, "m", "s").empty());
}
