// What a scan measures, position by position: long sequences, drawn positions, layers that reach few of them, equals, savings.
#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "support/near.hpp"
#include "support/same_scores.hpp"
#include "support/toy_options.hpp"

namespace {

using support::options_for;
using support::positioned_toy_model;
using support::toy_model;

// Sum of |observed - reference|^2 over a row.
double squared_distance(const klens::matrix<float>& reference, const klens::matrix<float>& observed, Eigen::Index row) {
  return (observed.row(row).cast<double>() - reference.row(row).cast<double>()).squaredNorm();
}

// Logits that a small weight reaches at some positions only; elsewhere they are what they are.
struct engine_with_rare_rows {
  klens::matrix<float> weights{{0.9f, 0.31f}, {-0.2f, 0.77f}, {0.4f, -0.5f}};  // no grid of 3 bits holds them
  std::vector<std::size_t> reached;
  std::size_t positions = 0;

  klens::matrix<float> operator()() const {
    klens::matrix<float> logits = support::wave(static_cast<Eigen::Index>(positions), 3, 0.37);
    for (const std::size_t row : reached)
      logits.row(static_cast<Eigen::Index>(row)) = (weights * Eigen::Vector2f{1, -0.5f}).transpose();
    return logits;
  }
};

}  // namespace

TEST_CASE("scan: sequences longer than what one thread takes at a time are measured at every position, by hand") {
  toy_model model;
  model.sequences = 2;
  model.length = 700;  // three chunks
  model.per_batch = 1;
  positioned_toy_model positioned;
  positioned.sequences = 2;
  positioned.length = 700;
  positioned.per_batch = 2;
  auto layers = model.layers(), positioned_layers = positioned.layers();
  const std::vector<klens::any_metric> metrics{klens::mse{}, klens::top1{}};
  for (const std::size_t threads : {1, 3}) {
    klens::rank_options options = options_for(model), positioned_options = options_for(positioned);
    options.threads = positioned_options.threads = threads;
    const klens::scores scores = klens::rank_layers(layers, model, {"int4-channel"}, metrics, options);
    support::check_same(scores,
                        klens::rank_layers(positioned_layers, positioned, {"int4-channel"}, metrics, positioned_options));
    CHECK(scores.positions == 1400);

    const klens::matrix<float> reference = model.all_logits();
    toy_model changed = model;
    klens::round_trip(klens::scheme{"int4-channel"}, model.second, changed.second);
    const klens::matrix<float> observed = changed.all_logits();
    const klens::metric_score& mse = scores.find("block.1.up.weight", "int4-channel")->metrics[0];
    REQUIRE(mse.by_sequence.size() == 2);
    Eigen::Index worst = 0;
    for (Eigen::Index s = 0; s < 2; ++s) {
      double sum = 0;
      for (Eigen::Index t = 700 * s; t < 700 * (s + 1); ++t) {
        sum += squared_distance(reference, observed, t) / toy_model::vocabulary;
        if (squared_distance(reference, observed, t) > squared_distance(reference, observed, worst)) worst = t;
      }
      CHECK(mse.by_sequence[static_cast<std::size_t>(s)].value == near{sum, 1e-5});
      CHECK(mse.by_sequence[static_cast<std::size_t>(s)].weight == 700);
    }
    CHECK(mse.worst == near{squared_distance(reference, observed, worst) / toy_model::vocabulary, 1e-5});
    CHECK(squared_distance(reference, observed, static_cast<Eigen::Index>(mse.worst_position)) ==
          near{squared_distance(reference, observed, worst), 1e-6});
  }
}

TEST_CASE("scan: twelve sequences of 400 tokens on four threads give the bits of one thread") {
  positioned_toy_model model;
  model.sequences = 12;
  model.length = 400;
  model.per_batch = 6;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  const std::vector<klens::scheme> schemes{"int4-channel", "int8-g4"};
  const klens::scores alone = klens::rank_layers(layers, model, schemes, klens::all_metrics(), options);
  options.threads = 4;
  support::check_same(alone, klens::rank_layers(layers, model, schemes, klens::all_metrics(), options));
  options.from = klens::direction::from_quantized;
  const std::vector<klens::any_metric> means{klens::kl{}, klens::mse{}};
  const klens::scores restored = klens::rank_layers(layers, model, schemes, means, options);
  options.threads = 1;
  support::check_same(restored, klens::rank_layers(layers, model, schemes, means, options));
}

TEST_CASE("scan: a layer that reaches a single position is measured there, wherever that is, and never taken for unchanged") {
  for (const std::size_t only : {0, 1, 255, 256, 299, 300, 555, 556, 899}) {  // ends of sequences and of chunks, and between
    engine_with_rare_rows engine{.reached = {only}, .positions = 900};
    std::vector<klens::layer> layers{{"expert.weight", engine.weights}};
    const klens::matrix<float> reference = engine();
    klens::rank_options options;
    options.sequence_length = 300;
    const klens::scores scores = klens::rank_layers(layers, engine, {"int3-channel"}, {klens::mse{}, klens::kl{}}, options);
    CAPTURE(only);
    const klens::layer_score& expert = scores.candidates.at(0);
    CHECK(expert.result == klens::outcome::measured);
    klens::round_trip(klens::scheme{"int3-channel"}, klens::matrix<float>{engine.weights}, engine.weights);
    const double moved = squared_distance(reference, engine(), static_cast<Eigen::Index>(only)) / 3;
    REQUIRE(moved > 0);
    CHECK(expert.metrics[0].mean == near{moved / 900, 1e-5});
    CHECK(expert.metrics[0].worst_position == only);
    CHECK(expert.metrics[1].mean > 0);
    for (std::size_t s = 0; s < 3; ++s) CHECK((expert.metrics[0].by_sequence[s].value > 0) == (s == only / 300));
  }
}

TEST_CASE("scan: a layer that moves a logit in the first batch alone, or in the last alone, was measured") {
  for (const std::size_t only : {0u, 2u}) {
    klens::matrix<float> weights{{0.9f, 0.31f}, {-0.2f, 0.77f}};
    std::vector<klens::layer> layers{{"expert.weight", weights}};
    const auto forward = [&](std::size_t batch) -> klens::matrix<float> {
      if (batch == only) return klens::matrix<float>{{1, 2}} * weights.transpose();
      return klens::matrix<float>{{0.3f, 0.1f}};
    };
    klens::rank_options options;
    options.batches = 3;
    const klens::scores scores = klens::rank_layers(layers, forward, {"int3-channel"}, {klens::kl{}}, options);
    CHECK(scores.candidates.at(0).result == klens::outcome::measured);
    CHECK(scores.candidates.at(0).metrics[0].mean > 0);
  }
}

TEST_CASE("scan: weights that a scheme keeps exactly, at drawn positions") {
  const auto check = [](auto model, std::size_t length) {
    model.length = length;
    model.first = model.first.unaryExpr([](float w) { return static_cast<float>(klens::half(w)); });
    auto layers = model.layers();
    layers.erase(layers.begin() + 1, layers.end());
    klens::rank_options options = options_for(model);
    options.positions = 6 * length - 7;  // of the first and of the last position of some sequence among them
    const klens::scores scores = klens::rank_layers(layers, model, {"fp16"}, klens::all_metrics(), options);
    const klens::layer_score& kept = scores.candidates.at(0);
    CHECK(kept.result == klens::outcome::weights_unchanged);
    CHECK(kept.positions == options.positions);
    for (std::size_t m = 0; m < scores.metrics.size(); ++m) {
      CAPTURE(scores.metrics[m].name);
      const double nothing_lost = scores.metrics[m].name == "sqnr"   ? std::numeric_limits<double>::infinity()
                                  : scores.metrics[m].name == "top1" ? 1
                                                                     : 0;
      CHECK(kept.metrics[m].mean == nothing_lost);
      CHECK(kept.metrics[m].worst == nothing_lost);
    }
  };
  check(toy_model{}, 5);
  check(positioned_toy_model{}, 5);
  check(toy_model{}, 600);
  check(positioned_toy_model{}, 600);
}

TEST_CASE("scan: of equally bad positions the first is named, over chunks, sequences and batches") {
  klens::matrix<float> weights{{0.9f, 0.31f}, {-0.2f, 0.77f}};
  std::vector<klens::layer> layers{{"w", weights}};
  const auto forward = [&](std::size_t) -> klens::matrix<float> {  // every position alike
    return klens::matrix<float>{{1, 2}}.replicate(900, 1) * weights.transpose();
  };
  klens::rank_options options;
  options.batches = 2;
  options.sequence_length = 300;
  options.tokens.assign(1800, 1);
  const klens::scores scores = klens::rank_layers(layers, forward, {"int3-channel"}, klens::all_metrics(), options);
  REQUIRE(scores.candidates.at(0).metrics[0].mean > 0);
  for (const klens::metric_score& each : scores.candidates.at(0).metrics) CHECK(each.worst_position == 0);

  // The same where the first 299 are better: the worst begin in the second chunk of the second sequence.
  const auto late = [&](std::size_t batch) -> klens::matrix<float> {
    klens::matrix<float> logits = forward(batch);
    if (batch == 0) logits.topRows(560).setZero();
    return logits;
  };
  const klens::scores from_there = klens::rank_layers(layers, late, {"int3-channel"}, {klens::mse{}, klens::kl{}}, options);
  for (const klens::metric_score& each : from_there.candidates.at(0).metrics) CHECK(each.worst_position == 560);
}

TEST_CASE("scan: a stopping rule settles by the damage of metrics where lower is worse, too") {
  toy_model model;
  model.sequences = 24;
  model.per_batch = 4;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.confidence = 0.7;
  for (const char* metric : {"top1", "sqnr", "mse"}) {
    CAPTURE(metric);
    options.rank_by = metric;
    options.stop = {};
    const klens::scores whole = klens::rank_layers(layers, model, {"int2-channel"}, klens::all_metrics(), options);
    const auto order = whole.ranked(metric);
    options.stop = klens::top{1};
    const klens::scores early = klens::rank_layers(layers, model, {"int2-channel"}, klens::all_metrics(), options);
    std::size_t settled = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const klens::standing place = early.find(order[i]->layer, "int2-channel")->place;
      CHECK(place != (i == 0 ? klens::standing::below : klens::standing::above));
      settled += klens::is_settled(place) ? 1 : 0;
    }
    CHECK(settled > 0);
  }
}

TEST_CASE("scan: what restoring saves may be negative, and so may its interval") {
  // Two layers whose errors cancel each other: quantized together they lose nothing, and restoring either does harm.
  klens::matrix<float> plus{{0.9f, 0.31f}, {-0.2f, 0.77f}, {0.4f, -0.5f}}, minus = -plus;
  std::vector<klens::layer> layers{{"plus", plus}, {"minus", minus}};
  const auto forward = [&]() -> klens::matrix<float> {
    const klens::matrix<float> inputs = support::wave(12, 2, 0.8);
    return support::wave(12, 3, 0.4) + inputs * plus.transpose() + inputs * minus.transpose();
  };
  klens::rank_options options;
  options.sequence_length = 3;
  options.from = klens::direction::from_quantized;
  const std::vector<klens::any_metric> metrics{klens::kl{}, klens::mse{}};
  const klens::scores scores = klens::rank_layers(layers, forward, {"int3-channel"}, metrics, options);
  options.from = klens::direction::from_reference;
  const klens::scores damages = klens::rank_layers(layers, forward, {"int3-channel"}, metrics, options);
  for (std::size_t m = 0; m < metrics.size(); ++m) {
    CHECK(std::abs(scores.quantized.at(0).metrics[m].mean) < 1e-12);
    for (std::size_t c = 0; c < 2; ++c) {
      const klens::metric_score &saved = scores.candidates[c].metrics[m], &lost = damages.candidates[1 - c].metrics[m];
      CHECK(lost.mean > 1e-4);
      CHECK(saved.mean == near{-lost.mean, 1e-4});
      CHECK(saved.low == near{klens::mean_interval(saved.by_sequence)->low, 1e-12});
      CHECK(saved.low < saved.mean);
      CHECK(saved.mean < saved.high);
      CHECK(saved.low < -lost.mean);
    }
  }
}
