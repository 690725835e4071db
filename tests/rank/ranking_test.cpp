#include <klens/rank/ranking.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <string>

namespace {

klens::layer_score candidate(const char* name, std::vector<klens::contribution> sums,
                             klens::outcome result = klens::outcome::measured) {
  klens::layer_score one;
  one.layer = name;
  one.scheme = "int4-channel";
  one.result = result;
  one.metrics.resize(1);
  one.metrics[0].by_sequence = std::move(sums);
  one.metrics[0].mean = klens::mean_of(one.metrics[0].by_sequence);
  return one;
}

// Four layers on six sequences: b far above, a and c within their noise, d below; and one that the forward does not use.
klens::scores example() {
  klens::scores all;
  all.metrics = {{"kl", "nats/token", true}};
  all.candidates = {candidate("a", {{10, 1}, {14, 1}, {11, 1}, {13, 1}, {12, 1}, {12, 1}}),
                    candidate("b", {{50, 1}, {55, 1}, {51, 1}, {54, 1}, {52, 1}, {53, 1}}),
                    candidate("unused", {{0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}}, klens::outcome::output_unchanged),
                    candidate("c", {{13, 1}, {11, 1}, {12, 1}, {11, 1}, {13, 1}, {11, 1}}),
                    candidate("d", {{1, 1}, {2, 1}, {1, 1}, {2, 1}, {1, 1}, {2, 1}})};
  return all;
}

}  // namespace

TEST_CASE("ranking: places, ties, and the difference to the next") {
  const klens::scores all = example();
  const klens::ranking found = klens::ranking_of(all, "kl", "int4-channel");
  REQUIRE(found.places.size() == 4);  // not the unused one
  CHECK(found.places[0].candidate->layer == "b");
  CHECK(found.places[1].candidate->layer == "a");
  CHECK(found.places[2].candidate->layer == "c");
  CHECK(found.places[3].candidate->layer == "d");
  CHECK(found.places[0].group == 0);
  CHECK(found.places[1].group == 1);
  CHECK(found.places[2].group == 1);
  CHECK(found.places[3].group == 2);
  CHECK(std::abs(found.places[0].to_next.value - 40.5) < 1e-12);
  REQUIRE(found.places[1].to_next.range);
  CHECK(found.places[1].to_next.range->contains(0));
  CHECK(found.places[3].to_next.value == 0);
  CHECK(found.stability > 0.6);
  CHECK(found.stability < 1);  // a and c may change places
}

TEST_CASE("ranking: a single sequence gives an order without ties and without stability") {
  klens::scores all = example();
  for (klens::layer_score& each : all.candidates) each.metrics[0].by_sequence.resize(1);
  const klens::ranking found = klens::ranking_of(all, "kl", "int4-channel");
  CHECK(found.places[2].group == 2);
  CHECK(!found.places[0].to_next.range);
  CHECK(std::isnan(found.stability));
}

TEST_CASE("ranking: another scheme has nobody") {
  const klens::scores all = example();
  CHECK(klens::ranking_of(all, "kl", "int8-channel").places.empty());
  CHECK_THROWS_AS((void)klens::ranking_of(all, "sqnr", "int4-channel"), klens::argument_error);
}

TEST_CASE("ranking: a confidence in percent is refused, also where nobody has a place") {
  const klens::scores all = example();
  for (const char* scheme : {"int4-channel", "int8-channel"})
    CHECK_THROWS_WITH_AS((void)klens::ranking_of(all, "kl", scheme, {.confidence = 95}),
                         doctest::Contains("a confidence of 95: it lies between 0 and 1"), klens::argument_error);
}

TEST_CASE("ranking: a mean that is NaN has no place and moves no other") {
  klens::scores all = example();
  all.candidates[0].metrics[0].mean = std::nan("");
  const klens::ranking found = klens::ranking_of(all, "kl", "int4-channel");
  REQUIRE(found.places.size() == 3);
  CHECK(found.places[0].candidate->layer == "b");
  CHECK(found.places[1].candidate->layer == "c");
}
