// What a model does to itself: the noise floor, how it is measured, and what the local scores make of it.
#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/random.hpp>
#include <klens/metric/rows.hpp>
#include <string>
#include <vector>

#include "support/near.hpp"
#include "support/residual_model.hpp"
#include "support/same_scores.hpp"

namespace {

using support::residual_model;

klens::rank_options options_for(const residual_model& model) {
  klens::rank_options options;
  options.batches = model.batches();
  options.sequence_length = model.length;
  options.tokens = model.tokens();
  options.noise_floor = true;
  return options;
}

// Mean KL over the first batch between the model and itself with every embedding moved to a neighbour, as the seed says.
double kl_of_last_bits(const residual_model& model, std::uint64_t seed) {
  residual_model::state plain = model.begin(0);
  model.advance(plain, 0);
  residual_model::state moved = plain;
  klens::detail::random_stream random{seed};
  for (Eigen::Index i = 0; i < moved.hidden.size(); ++i) {
    float& each = moved.hidden.data()[i];
    each = std::nextafter(each, (random.bits() >> 63) != 0 ? HUGE_VALF : -HUGE_VALF);
  }
  for (std::size_t stage = 1; stage < model.stages(); ++stage) {
    model.advance(plain, stage);
    model.advance(moved, stage);
  }
  const klens::matrix<float> x = model.logits(plain), y = model.logits(moved);
  double total = 0;
  for (Eigen::Index t = 0; t < x.rows(); ++t) total += klens::kl_divergence(klens::row(x, t), klens::row(y, t));
  return total / static_cast<double>(x.rows());
}

// Six candidates of one kind, one a layer, of which four are measured on one sequence of ten positions: local energies of 1, and
// the KLs that `kl_of` gives, in their order.
struct six_candidates {
  klens::detail::local_scores known;
  std::vector<std::size_t> measured;

  explicit six_candidates(const std::vector<double>& kl_of) {
    for (std::size_t c = 0; c < 6; ++c) {
      known.add(c, {c, 6}, "up", c, "int4", true);
      known.add_energies(c, std::vector<double>(10, 1.0));
    }
    known.choose(4, 1, 1);
    for (const std::size_t c : known.calibrations(0)) measured.push_back(c);
    std::ranges::sort(measured);
    for (std::size_t i = 0; i < measured.size(); ++i) known.add_kls(measured[i], std::vector<double>(10, kl_of[i]));
    known.close_batch({10});
  }

  [[nodiscard]] klens::scores predict(double floor) {
    klens::scores found;
    for (std::size_t c = 0; c < 6; ++c) {
      klens::layer_score& each = found.candidates.emplace_back();
      each.layer = std::to_string(c);
      each.scheme = "int4-channel";
      each.metrics.resize(1);
    }
    for (const std::size_t c : measured) found.candidates[c].result = klens::outcome::measured;
    klens::detail::enter_predictions(found, known, known.draw(400, floor, 1000), floor);
    return found;
  }
};

}  // namespace

TEST_CASE("noise floor: every embedding moves to a neighbour, up or down by the seed") {
  klens::matrix<float> values = support::gaussian(20, 30, 1, 5);
  const klens::matrix<float> before = values;
  klens::detail::change_last_bits(values, 3);
  std::size_t up = 0;
  for (Eigen::Index i = 0; i < values.size(); ++i) {
    const float was = before.data()[i], is = values.data()[i];
    CHECK((is == std::nextafter(was, HUGE_VALF) || is == std::nextafter(was, -HUGE_VALF)));
    up += is > was ? 1 : 0;
  }
  CHECK(up > 200);  // of 600; a fair coin strays so far once in 10^15
  CHECK(up < 400);
}

TEST_CASE("noise floor: of a forward with a residual stream, what the last bits of its embeddings do to the first batch") {
  residual_model model;
  std::vector<klens::layer> layers = model.layers();
  for (const std::uint64_t seed : {1u, 7u}) {
    klens::rank_options options = options_for(model);
    options.seed = seed;
    const klens::scores found = klens::rank_layers(layers, model, "int8-channel", {klens::kl{}, klens::top1{}}, options);
    REQUIRE(found.noise.size() == 2);
    const double expected = kl_of_last_bits(model, seed);
    CHECK(expected > 0);
    CHECK(expected < 1e-10);
    CHECK(found.noise[0].mean == near{expected, 1e-9});
    CHECK(found.noise[0].by_sequence.size() == model.per_batch);
    CHECK(found.noise[1].mean == 1);
    CHECK(found.remarks.empty());  // the forward itself gives the same bits again

    options.method = klens::scan_method::local;
    const klens::scores local = klens::rank_layers(layers, model, "int8-channel", klens::kl{}, options);
    REQUIRE(local.noise.size() == 1);
    support::check_same(local.noise[0].by_sequence, found.noise[0].by_sequence);
    options.noise_floor = false;
    CHECK(klens::rank_layers(layers, model, "int8-channel", klens::kl{}, options).noise.empty());
  }
}

TEST_CASE("noise floor: local scores learn no gain from what drowns in it, and say so") {
  const std::vector<double> kl{0.5, 2e-4, 0.5, 2.9e-4};
  const klens::scores plain = six_candidates{kl}.predict(0), floored = six_candidates{kl}.predict(3e-4);
  const six_candidates six{kl};
  for (std::size_t c = 0; c < 6; ++c) {
    const bool was_measured = std::ranges::find(six.measured, c) != six.measured.end();
    const klens::metric_score& score =
        floored.candidates[c].metrics[0];  // as the two that were learned from, though not seen so
    CHECK(score.low < 0.5);
    CHECK(score.high > 0.5);
    CHECK(score.mean > 0.3);
    if (was_measured) continue;
    CHECK(plain.candidates[c].metrics[0].mean < 0.3);
  }
  REQUIRE(!floored.remarks.empty());
  CHECK(floored.remarks[0].starts_with("2 of the measured candidates drown in rounding"));

  for (const std::string& each : six_candidates{{4e-4, 4e-4, 4e-4, 4e-4}}.predict(2e-4).remarks)
    CHECK(each.find("drown") == std::string::npos);
  const klens::scores quiet = six_candidates{{4e-4, 4e-4, 4e-4, 1e-6}}.predict(3.9e-4);
  REQUIRE(!quiet.remarks.empty());
  CHECK(quiet.remarks[0].starts_with("1 of the measured candidates drown in rounding"));
  CHECK_THROWS_WITH_AS((void)six_candidates{kl}.predict(3), doctest::Contains("4 drown in rounding"), klens::argument_error);
}

TEST_CASE("local scores: what is infinite stays so, and teaches nobody") {
  const klens::scores found = six_candidates{{0.5, HUGE_VAL, 0.5, 0.5}}.predict(0);
  std::size_t infinite = 0;
  for (const klens::layer_score& each : found.candidates) {
    infinite += each.metrics[0].high == HUGE_VAL ? 1 : 0;
    if (each.source == klens::score_source::local) CHECK(each.metrics[0].mean == near{0.5, 0.2});
  }
  CHECK(infinite == 1);
}
