// What a model does to itself: the noise floor, how it is measured, and what the local scores make of it.
#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

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

// Six candidates of one kind, one a layer, of which four are measured on two sequences of ten positions.
struct six_candidates {
  klens::detail::local_scores scores;
  std::vector<std::size_t> measured;

  // Of the measured ones: local energies of 1, and KLs of 0.9 and 1.1 times the mean that `kl_of` gives, in that order.
  explicit six_candidates(const std::vector<double>& kl_of) {
    for (std::size_t c = 0; c < 6; ++c) scores.add(c, static_cast<double>(c) / 6, "up", c, 0, true);
    scores.choose_calibrations(4, 1);
    for (std::size_t c = 0; c < 6; ++c) {
      scores.add_energy(c, {20, 20});
      if (!scores.is_calibration(c)) continue;
      const double kl = kl_of[measured.size()];
      measured.push_back(c);
      klens::detail::batch_damage damage{{2, std::vector<klens::detail::metric_sums>(1)}, true};
      damage.sums[0][0].total = {9 * kl, 10};
      damage.sums[1][0].total = {11 * kl, 10};
      scores.add_kl(c, damage);
    }
  }

  [[nodiscard]] klens::scores predict(double noise) {
    klens::scores found;
    for (std::size_t c = 0; c < 6; ++c) {
      klens::layer_score& each = found.candidates.emplace_back();
      each.layer = std::to_string(c);
      each.scheme = "int4-channel";
      each.metrics.resize(1);
    }
    if (noise > 0) {
      found.noise.resize(1);
      found.noise[0].by_sequence = {{10 * noise, 10}};
    }
    for (const std::size_t c : measured) found.candidates[c].result = klens::outcome::measured;
    scores.predict(found);
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
  const klens::scores plain = six_candidates{kl}.predict(0), floored = six_candidates{kl}.predict(1e-4);
  CHECK(plain.remarks.empty());
  std::size_t predicted = 0;
  for (std::size_t c = 0; c < 6; ++c) {
    if (floored.candidates[c].source != klens::score_source::local) continue;
    ++predicted;
    CHECK(floored.candidates[c].gain == near{0.5, 1e-9});  // of the two that were learned from
    CHECK(plain.candidates[c].gain < 0.1);
  }
  CHECK(predicted == 2);
  REQUIRE(floored.remarks.size() == 1);
  CHECK(floored.remarks[0].starts_with("2 of the measured candidates drown in rounding"));

  const klens::scores quiet = six_candidates{{4e-4, 4e-4, 4e-4, 4e-4}}.predict(1.3e-4);
  CHECK(quiet.remarks.empty());
  const klens::scores just = six_candidates{{4e-4, 4e-4, 4e-4, 1e-6}}.predict(1.3e-4);
  CHECK(just.remarks.size() == 1);
  CHECK_THROWS_WITH_AS((void)six_candidates{kl}.predict(1), doctest::Contains("4 drown in rounding"), klens::argument_error);
}

TEST_CASE("local intervals: the gain's deviation and the spread between sequences, each with its Student's t, by hand") {
  const std::vector<double> kl{0.4, 0.5, 0.6, 0.5};
  six_candidates six{kl};
  const klens::scores found = six.predict(0);
  std::vector<klens::detail::gain_item> items;
  std::vector<double> log_gains;
  for (std::size_t c = 0; c < 6; ++c) items.push_back({static_cast<double>(c) / 6, 0, c, 0});
  for (const double each : kl) log_gains.push_back(std::log(each));
  klens::detail::gain_model model{items};
  model.fit(six.measured, log_gains);
  for (std::size_t c = 0; c < 6; ++c) {
    const klens::layer_score& each = found.candidates[c];
    if (each.source != klens::score_source::local) continue;
    CHECK(each.metrics[0].mean == near{std::exp(model.mean(c)), 1e-9});
    // Two sequences a tenth below and above the mean: its relative standard error is 0.1. Four gains, two sequences: Student's t
    // at 2.5 % with 3 and with 1 degrees of freedom.
    const double of_gain = 3.1824463052837096 * model.deviation(c), of_sequences = 12.706204736174705 * 0.1;
    CHECK(std::log(each.metrics[0].high / each.metrics[0].mean) == near{std::hypot(of_gain, of_sequences), 1e-9});
    CHECK(std::log(each.metrics[0].mean / each.metrics[0].low) == near{std::hypot(of_gain, of_sequences), 1e-9});
  }
}
