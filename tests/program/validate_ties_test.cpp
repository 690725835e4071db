// Which changes of perplexity are ties is itself a matter of the text: klens validate decides it anew in every resample.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <klens/layer.hpp>
#include <klens/rank/scores.hpp>
#include <klens/stats/interval.hpp>
#include <string>
#include <vector>

#include "validate_study.hpp"
#include "validate_words.hpp"

namespace {

constexpr std::size_t sequences = 16;

// A score whose sequences are `mean` and, in turns, `spread` above and below it.
klens::metric_score score_of(double mean, double spread) {
  klens::metric_score made;
  for (std::size_t s = 0; s < sequences; ++s) made.by_sequence.push_back({mean + (s % 2 == 0 ? spread : -spread), 1});
  made.mean = klens::mean_of(made.by_sequence);
  const klens::interval range = *klens::mean_interval(made.by_sequence, 0.95);
  made.low = range.low;
  made.high = range.high;
  return made;
}

struct change {
  std::string layer;
  double kl, increase, spread;
};

// Scans in which KL is the same on every sequence, and the increase of cross entropy is spread so much.
klens::scores scan_of(const std::vector<change>& changes) {
  klens::scores made;
  made.metrics = {{"kl", "nats/token", true}, {"delta_ce", "nats/token", true}};
  made.sequences = sequences;
  made.positions = made.tokens = sequences;
  for (const change& each : changes) {
    klens::layer_score& added = made.candidates.emplace_back();
    added.layer = each.layer;
    added.scheme = "int4-channel";
    added.rows = added.columns = 1;
    added.positions = sequences;
    added.result = klens::outcome::measured;
    added.weight_sqnr_db = 20;
    added.metrics = {score_of(each.kl, 0), score_of(each.increase, each.spread)};
  }
  made.reference.nll_by_sequence.assign(sequences, {2, 1});
  return made;
}

// A study of these changes on calibration and on held-out tokens.
struct studied {
  std::vector<klens::matrix<float>> weights;
  std::vector<klens::layer> layers;
  std::array<klens::scores, 2> scans;
  programs::study found;

  explicit studied(const std::vector<change>& changes) : studied(changes, changes) {}
  studied(const std::vector<change>& calibrated, const std::vector<change>& held_out)
      : weights(calibrated.size(), klens::matrix<float>::Ones(1, 1)), scans{scan_of(calibrated), scan_of(held_out)} {
    for (std::size_t i = 0; i < calibrated.size(); ++i) layers.emplace_back(calibrated[i].layer, weights[i]);
    found = programs::compare_with_perplexity(scans[0], scans[1], layers, {});
  }
};

// The interval of KL's tau over all candidates.
klens::estimate tau_of(const std::vector<change>& changes) {
  const studied made{changes};
  return made.found.groups.front().verdicts[made.found.index_of("kl")].kendall;
}

}  // namespace

TEST_CASE(
    "validate: whether a change is a tie is decided anew in every resample, so that tau has the width that this gives it") {
  // The order of a, b and d never changes, and z is always a tie. c is one with this text, all but: on other text of the size it is
  // as likely none, and then comes after z, as KL has it.
  const std::vector<change> settled{{"z", 1, 0, 1}, {"a", 2, 5, 1e-3}, {"b", 3, 4, 1e-3}, {"d", 5, 6, 1e-3}};
  const klens::estimate without = tau_of(settled);
  REQUIRE(without.range);
  CHECK(without.range->high - without.range->low < 1e-9);

  std::vector<change> borderline = settled;
  const klens::metric_score spread = score_of(0, 1);
  borderline.push_back({"c", 1.5, 0.98 * spread.high, 1});
  const klens::estimate with = tau_of(borderline);
  // z and c are tied: of ten pairs eight are in KL's order and one is not
  CHECK(with.value == doctest::Approx(7 / std::sqrt(10.0 * 9)).epsilon(1e-12));
  REQUIRE(with.range);
  CHECK(with.range->high - with.range->low > 0.02);
  CHECK(with.range->low <= with.value);
  CHECK(with.range->high >= with.value);
}

TEST_CASE("validate: where the perplexity change of the calibration tokens is the better guide, the verdict says so") {
  const studied against{{{"a", 1, 4, 1e-3}, {"b", 2, 3, 1e-3}, {"c", 3, 2, 1e-3}, {"d", 4, 1, 1e-3}}};
  REQUIRE(programs::verdict_texts(against.found).size() == 1);
  CHECK(
      programs::verdict_texts(against.found).front() ==
      "int4-channel: kl against delta_ce -2.000 (-2.000 .. -2.000), delta_ce beats kl; the perplexity change of 0 of 4 layers "
      "lies within its own error.");
  // nothing is said of it where the two agree, or where it cannot be told which is better
  const studied alike{{{"a", 1, 1, 1e-3}, {"b", 2, 2, 1e-3}, {"c", 3, 3, 1e-3}, {"d", 4, 4, 1e-3}}};
  CHECK(programs::verdict_texts(alike.found).front() ==
        "int4-channel: the perplexity change of 0 of 4 layers lies within its own error.");
}

TEST_CASE("validate: what a text adds to kl is compared between the two texts") {
  // delta_ce - kl is -1, 0, 1, 2 on the calibration tokens, and 0, -2, 1, 2 held out: one pair of six is turned round
  const studied made{{{"a", 4, 3, 0}, {"b", 3, 3, 0}, {"c", 2, 3, 0}, {"d", 1, 3, 0}},
                     {{"a", 4, 4, 0}, {"b", 3, 1, 0}, {"c", 2, 3, 0}, {"d", 1, 3, 0}}};
  CHECK(std::abs(made.found.groups.front().lean.value - 4.0 / 6) < 1e-12);
}
