#include <klens/plan/race.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <vector>

#include "support/toy_model.hpp"

namespace {

using klens::model_version;

model_version all_in(const std::string& scheme) {
  return {{"block.0.up.weight", scheme}, {"block.1.up.weight", scheme}, {"head.weight", scheme}};
}

}  // namespace

TEST_CASE("race_versions: the winner has the least KL of all, what leaves is worse, and stops costing forwards") {
  support::toy_model model;
  model.sequences = 40;
  model.per_batch = 4;
  std::vector<klens::layer> layers = model.layers();
  const klens::matrix<float> first = model.first;
  std::vector<model_version> versions;
  for (const char* const scheme : {"int2-channel", "int8-channel", "int3-channel", "int4-channel", "int8-g6"})
    versions.push_back(all_in(scheme));
  const klens::measure_versions_options measuring{.batches = model.batches(), .sequence_length = model.length};
  const std::vector<klens::measured_version> whole = klens::measure_versions(model, layers, versions, measuring);
  const klens::race_result race = klens::race_versions(model, layers, versions, {.measuring = measuring});
  CHECK((race.winner == 1 || race.winner == 4));
  CHECK(!race.left[race.winner]);
  CHECK(race.left[0]);
  CHECK(race.runs < versions.size() * model.batches() + model.batches());
  std::size_t forwards = 0;
  for (std::size_t v = 0; v < race.measured.size(); ++v) {
    const auto &own = race.measured[v].kl_by_sequence, &all = whole[v].kl_by_sequence;
    REQUIRE(own.size() <= all.size());
    for (std::size_t s = 0; s < own.size(); ++s) CHECK(own[s].value == all[s].value);  // measured as without a race
    if (v > 0 && !race.left[v - 1]) CHECK(own.size() == all.size());
    forwards += own.size();
  }
  CHECK(race.runs * model.per_batch == forwards);
  const double shared = 1 - 2 * 0.01 / static_cast<double>(versions.size() * model.batches());
  for (std::size_t v = 0; v < versions.size(); ++v) {
    if (v == race.winner) continue;
    const klens::estimate apart =
        klens::difference_of(race.measured[v + 1].kl_by_sequence, race.measured[race.winner + 1].kl_by_sequence, shared);
    CHECK(race.left[v] == (apart.range->low > 0));
  }
  CHECK(model.first == first);
}

TEST_CASE("race_versions: equal versions stay, one alone wins, and nobody leaves before there are enough sequences") {
  support::toy_model model;
  model.sequences = 40;
  model.per_batch = 4;
  std::vector<klens::layer> layers = model.layers();
  const klens::measure_versions_options measuring{.batches = model.batches(), .sequence_length = model.length};
  const std::vector<model_version> same{all_in("int4-channel"), all_in("int4-channel")};
  const klens::race_result race = klens::race_versions(model, layers, same, {.measuring = measuring});
  CHECK(race.left == std::vector<bool>{false, false});
  CHECK(race.winner == 0);
  const std::vector<model_version> unequal{all_in("int2-channel"), all_in("int8-channel")};
  CHECK(klens::race_versions(model, layers, std::span(unequal).first(1), {.measuring = measuring}).winner == 0);
  const klens::race_result patient =
      klens::race_versions(model, layers, unequal, {.measuring = measuring, .least_sequences = model.sequences + 1});
  CHECK(patient.left == std::vector<bool>{false, false});
  CHECK(patient.winner == 1);
  CHECK_THROWS_AS((void)klens::race_versions(model, layers, std::span<const model_version>{}, {.measuring = measuring}),
                  klens::argument_error);
  CHECK_THROWS_AS((void)klens::race_versions(model, layers, unequal, {.measuring = measuring, .confidence = 1}),
                  klens::argument_error);
}
