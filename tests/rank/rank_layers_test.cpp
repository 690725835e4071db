#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "support/same_scores.hpp"
#include "support/toy_options.hpp"

namespace {

using support::check_same;
using support::options_for;
using support::positioned_toy_model;
using support::toy_model;

const std::vector<klens::scheme> schemes{"int4-channel", "int8-g4"};
const std::vector<klens::any_metric> metrics = klens::all_metrics();

struct kept_weights {
  explicit kept_weights(const toy_model& of) : first{of.first}, second{of.second}, head{of.head} {}
  void check(const toy_model& now) const {
    CHECK(now.first == first);
    CHECK(now.second == second);
    CHECK(now.head == head);
  }
  klens::matrix<float> first, second, head;
};

}  // namespace

static_assert(klens::staged_forward<toy_model> && !klens::positioned_forward<toy_model>);
static_assert(klens::positioned_forward<positioned_toy_model>);

TEST_CASE("rank_layers: one layer, one token, by hand") {
  // W = [[1.5], [0.5]] under int2-channel-f32 has scale 1.5: codes 1 and 0 (0.333 rounds down), so logits (1.5, 0.5) become
  // (1.5, 0).
  klens::matrix<float> weights{{1.5f, 1.0f},
                               {0.5f, 1.0f}};  // two columns: the row is the group, rounded as {1.5, 1.5} and {0, 1}
  std::vector<klens::layer> layers{{"w", weights}};
  const klens::matrix<float> x{{1.0f, 0.0f}};
  const auto forward = [&]() -> klens::matrix<float> { return x * weights.transpose(); };
  klens::rank_options options;
  const klens::scores scores = klens::rank_layers(layers, forward, {"int2-channel-f32"}, metrics, options);
  // Row 0: scale 1.5, codes 1 and round(2/3) = 1. Row 1: scale 1, codes round(0.5) = 0 (half to even) and 1. Logits (1.5, 0.5)
  // -> (1.5, 0).
  const double p = 1 / (1 + std::exp(-1.0)), q = 1 / (1 + std::exp(-1.5));
  const double kl = p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q));
  const klens::layer_score& only = scores.candidates.at(0);
  CHECK(std::abs(only.metrics[scores.index_of("kl")].mean - kl) < 1e-6 * kl);
  CHECK(only.metrics[scores.index_of("mse")].mean == 0.125);
  CHECK(std::abs(only.metrics[scores.index_of("sqnr")].mean - 10.0) < 1e-12);  // 2.5 / 0.25
  CHECK(only.metrics[scores.index_of("top1")].mean == 1.0);
  CHECK(std::isnan(only.metrics[0].low));  // one sequence: no interval
  CHECK(only.bytes == 2 * (1 + 4));        // two codes of 2 bits fill a byte, and a float scale
  CHECK(only.positions == 1);
  CHECK(scores.complete);
  CHECK(std::abs(only.weight_sqnr_db - 10 * std::log10(4.5 / 0.5)) < 1e-6);
}

TEST_CASE("rank_layers: every strength of forward gives the same bits") {
  toy_model model;
  positioned_toy_model positioned;
  auto layers = model.layers();
  auto positioned_layers = positioned.layers();
  const klens::rank_options options = options_for(model);
  const auto by_batch = [&](std::size_t batch) { return model.batch_logits(batch); };
  const auto whole = [&] { return model.all_logits(); };
  klens::rank_options at_once = options;
  at_once.batches = 1;
  for (klens::layer& each : layers) each.stage = 0;  // the weaker strengths have no stages
  const klens::scores one = klens::rank_layers(layers, whole, schemes, metrics, at_once);
  check_same(one, klens::rank_layers(layers, by_batch, schemes, metrics, options));
  layers = model.layers();
  check_same(one, klens::rank_layers(layers, model, schemes, metrics, options));
  check_same(one, klens::rank_layers(positioned_layers, positioned, schemes, metrics, options));
}

TEST_CASE("rank_layers: neither threads nor the size of batches change a bit") {
  toy_model model;
  auto layers = model.layers();
  const klens::scores one = klens::rank_layers(layers, model, schemes, metrics, options_for(model));
  klens::rank_options threaded = options_for(model);
  threaded.threads = 3;
  check_same(one, klens::rank_layers(layers, model, schemes, metrics, threaded));

  toy_model other;
  other.per_batch = 6;
  auto other_layers = other.layers();
  check_same(one, klens::rank_layers(other_layers, other, schemes, metrics, options_for(other)));
}

TEST_CASE("rank_layers: reference logits that are made again for every candidate change no bit") {
  const auto scores_of = [](klens::rank_options options, std::size_t memory, std::size_t threads, std::size_t positions) {
    positioned_toy_model model;
    model.sequences = 62;
    model.per_batch = 31;  // 155 positions
    options.batches = model.batches();
    options.sequence_length = model.length;
    options.tokens = model.tokens();
    options.logits_memory = memory;
    options.threads = threads;
    options.positions = positions;
    const kept_weights kept{model};
    std::vector<klens::layer> layers = model.layers();
    const klens::scores scores = klens::rank_layers(layers, model, schemes, {klens::kl{}, klens::delta_ce{}}, options);
    kept.check(model);
    return scores;
  };
  klens::rank_options restored;
  restored.from = klens::direction::from_quantized;
  for (const klens::rank_options& options : {klens::rank_options{}, restored})
    for (const std::size_t positions : {0, 200}) {
      const klens::scores whole = scores_of(options, std::size_t{1} << 20, 1, positions);
      REQUIRE(whole.candidates.size() == 6);  // the head's among them
      for (const klens::layer_score& each : whole.candidates) CHECK(each.metrics.front().mean != 0);
      for (const std::size_t threads : {1, 3}) check_same(scores_of(options, 0, threads, positions), whole);
    }
}

TEST_CASE("rank_layers: reference logits that are made again are never a changed head's") {
  positioned_toy_model model;
  model.sequences = model.per_batch = 31;
  klens::rank_options options = options_for(model);
  options.logits_memory = 0;
  std::vector<klens::layer> layers = model.layers();
  layers[2].stage = 2;  // the head, which makes its own reference
  try {
    (void)klens::rank_layers(layers, model, "int4-channel", {klens::kl{}}, options);
    FAIL("nothing was thrown");
  } catch (const klens::scan_error& caught) {
    CHECK(std::string{caught.what()}.find("head.weight") != std::string::npos);
    CHECK(std::string{caught.what()}.find("last_stage = stages()") != std::string::npos);
  }
}

TEST_CASE("rank_layers: weights come back after success, exception and stop") {
  toy_model model;
  const kept_weights before{model};
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  (void)klens::rank_layers(layers, model, schemes, metrics, options);
  before.check(model);

  int calls = 0;
  const auto failing = [&](std::size_t batch) -> klens::matrix<float> {
    if (++calls == 5) throw std::runtime_error{"the engine gave up"};  // 1 and 2: the reference, and again
    return model.batch_logits(batch);
  };
  for (klens::layer& each : layers) each.stage = 0;
  try {
    (void)klens::rank_layers(layers, failing, schemes, metrics, options);
    FAIL("no exception");
  } catch (const klens::scan_error& caught) {
    CHECK(std::string{caught.what()} == "batch 0: block.1.up.weight as int4-channel: the engine gave up");
    CHECK(caught.partial.candidates[0].positions == 10);
    CHECK(caught.partial.candidates[1].positions == 10);
    CHECK(caught.partial.candidates[2].result == klens::outcome::not_measured);
    CHECK(!caught.partial.complete);
  }
  before.check(model);

  std::size_t reports = 0;
  options.progress = [&](const klens::scan_progress&) { return ++reports < 8; };  // in the middle of the second batch
  layers = model.layers();
  const klens::scores partial = klens::rank_layers(layers, model, schemes, metrics, options);
  before.check(model);
  CHECK(!partial.complete);
  CHECK(partial.candidates[1].positions == 20);
  CHECK(partial.candidates[2].positions == 10);
  CHECK(partial.ranked("kl").size() == 6);
}

TEST_CASE("rank_layers: what a partial scan has is what a whole one had at that point") {
  toy_model model, small;
  small.sequences = 2;  // one batch
  auto layers = model.layers(), small_layers = small.layers();
  klens::rank_options options = options_for(model);
  std::size_t reports = 0;
  options.progress = [&](const klens::scan_progress&) { return ++reports < 6; };
  const klens::scores partial = klens::rank_layers(layers, model, schemes, metrics, options);
  const klens::scores whole = klens::rank_layers(small_layers, small, schemes, metrics, options_for(small));
  for (std::size_t c = 0; c < 6; ++c) CHECK(partial.candidates[c].metrics[0].mean == whole.candidates[c].metrics[0].mean);
}

TEST_CASE("rank_layers: a layer that the forward does not use is reported, never called robust") {
  toy_model model;
  std::vector<klens::layer> layers = model.layers();
  layers.emplace_back("unused.weight", model.unused);
  const klens::scores scores = klens::rank_layers(layers, model, {"int4-channel"}, metrics, options_for(model));
  CHECK(scores.find("unused.weight", "int4-channel")->result == klens::outcome::output_unchanged);
  for (const char* metric : {"kl", "sqnr", "top1"}) CHECK(scores.ranked(metric).back()->layer == "unused.weight");
}

TEST_CASE("rank_layers: weights that a scheme keeps exactly cost no forward and lose nothing") {
  toy_model model;
  for (klens::matrix<float>* weights : {&model.first, &model.second, &model.head})
    *weights = weights->unaryExpr([](float w) { return static_cast<float>(klens::half(w)); });
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.repeat_reference = false;
  const klens::scores scores = klens::rank_layers(layers, model, {"fp16"}, metrics, options);
  for (const klens::layer_score& each : scores.candidates) {
    CHECK(each.result == klens::outcome::weights_unchanged);
    CHECK(each.metrics[scores.index_of("kl")].mean == 0);
    CHECK(each.metrics[scores.index_of("top1")].mean == 1);
    CHECK(each.metrics[scores.index_of("sqnr")].mean == std::numeric_limits<double>::infinity());
    CHECK(each.positions == 30);
  }
  CHECK(std::abs(scores.cost.forwards - 1) < 1e-12);
}

TEST_CASE("rank_layers: a staged forward goes on at the layer's own stage, and the cost says so") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.repeat_reference = false;
  const klens::scores scores = klens::rank_layers(layers, model, {"int4-channel"}, metrics, options);
  // Three batches: the reference runs 3 stages; candidates at stages 1, 2 and 3 (the head) run 2, 1 and 0 of them.
  CHECK(model.stages_run == 3 * (3 + 2 + 1 + 0));
  // With the head four steps of equal cost: 4/4 + 3/4 + 2/4 + 1/4 of a forward.
  CHECK(std::abs(scores.cost.forwards - 2.5) < 1e-12);

  // The reference run twice over the first of the three batches: a third of a forward more.
  model.stages_run = 0;
  options.repeat_reference = true;
  CHECK(std::abs(klens::rank_layers(layers, model, {"int4-channel"}, metrics, options).cost.forwards - 2.5 - 1. / 3) < 1e-12);
  CHECK(model.stages_run == 3 * (3 + 2 + 1 + 0) + 3);
}

TEST_CASE("rank_layers: fp16 memory, bf16 memory and callables are ranked like floats") {
  toy_model model;
  klens::matrix<klens::bfloat16> stored = model.first.cast<klens::bfloat16>();
  model.first = stored.cast<float>();
  auto layers = model.layers();
  const klens::scores direct = klens::rank_layers(layers, model, {"int2-channel-f32"}, metrics, options_for(model));
  std::vector<klens::layer> by_callables{{"block.0.up.weight", 12, 12,
                                          [&](klens::matrix_ref<float> into) { into = model.first; },
                                          [&](klens::const_matrix_ref<float> from) { model.first = from; }}};
  by_callables[0].stage = 1;
  const klens::scores called = klens::rank_layers(by_callables, model, {"int2-channel-f32"}, metrics, options_for(model));
  CHECK(called.candidates[0].metrics[0].mean == direct.candidates[0].metrics[0].mean);

  struct narrow_engine {
    toy_model* model;
    klens::matrix<klens::bfloat16>* weights;
    klens::matrix<float> operator()(std::size_t batch) const {
      model->first = weights->cast<float>();
      return model->batch_logits(batch);
    }
  };
  const klens::matrix<klens::bfloat16> before = stored;
  std::vector<klens::layer> narrow{{"block.0.up.weight", stored}};
  const narrow_engine engine{&model, &stored};
  const klens::scores rounded = klens::rank_layers(narrow, engine, {"int2-channel-f32"}, metrics, options_for(model));
  CHECK((stored.array() == before.array()).all());
  // int2 keeps 0 and the row's largest weight, which bf16 holds exactly.
  CHECK(rounded.candidates[0].metrics[0].mean == direct.candidates[0].metrics[0].mean);
}

TEST_CASE("rank_layers: delta_ce and perplexity are those of the next tokens") {
  toy_model model;
  auto layers = model.layers();
  const klens::scores scores = klens::rank_layers(layers, model, {"int2-channel"}, metrics, options_for(model));
  const auto nll_of = [&] {  // plain double, all sequences
    const klens::matrix<float> logits = model.all_logits();
    const auto tokens = model.tokens();
    double sum = 0;
    for (std::size_t s = 0; s < model.sequences; ++s)
      for (std::size_t i = s * model.length; i + 1 < (s + 1) * model.length; ++i) {
        double total = 0;
        for (Eigen::Index v = 0; v < logits.cols(); ++v)
          total += std::exp(static_cast<double>(logits(static_cast<Eigen::Index>(i), v)));
        sum += std::log(total) - static_cast<double>(logits(static_cast<Eigen::Index>(i), tokens[i + 1]));
      }
    return sum / static_cast<double>(model.sequences * (model.length - 1));
  };
  const double reference = nll_of();
  CHECK(std::abs(scores.reference.nll() - reference) < 1e-6);
  const klens::matrix<float> kept = model.first;
  klens::round_trip(klens::scheme{"int2-channel"}, kept, model.first);
  CHECK(std::abs(scores.candidates[0].metrics[scores.index_of("delta_ce")].mean - (nll_of() - reference)) < 1e-6);
  CHECK(std::abs(scores.perplexity(scores.candidates[0]) - std::exp(nll_of())) < 1e-5 * std::exp(nll_of()));
}

TEST_CASE("rank_layers: the worst position is where the metric is worst, in its own direction") {
  toy_model model;
  auto layers = model.layers();
  const klens::scores scores = klens::rank_layers(layers, model, {"int2-channel"}, metrics, options_for(model));
  const klens::matrix<float> reference = model.all_logits();
  klens::round_trip(klens::scheme{"int2-channel"}, klens::matrix<float>{model.first}, model.first);
  const klens::matrix<float> observed = model.all_logits();
  Eigen::Index worst_mse = 0, worst_sqnr = 0;
  const Eigen::VectorXf mse = (observed - reference).rowwise().squaredNorm();
  mse.maxCoeff(&worst_mse);
  (reference.rowwise().squaredNorm().array() / mse.array()).minCoeff(&worst_sqnr);
  CHECK(scores.candidates[0].metrics[scores.index_of("mse")].worst_position == static_cast<std::size_t>(worst_mse));
  CHECK(scores.candidates[0].metrics[scores.index_of("sqnr")].worst_position == static_cast<std::size_t>(worst_sqnr));
}

TEST_CASE("rank_layers: positions drawn across sequences") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.positions = 9;  // of 30: one or two of each sequence
  const klens::scores drawn = klens::rank_layers(layers, model, schemes, metrics, options);
  CHECK(drawn.candidates[0].positions == 9);
  CHECK(drawn.candidates[0].metrics[0].by_sequence.size() == 6);
  for (const klens::contribution& each : drawn.candidates[0].metrics[0].by_sequence)
    CHECK((each.weight == 1 || each.weight == 2));

  toy_model other;
  other.per_batch = 3;
  auto other_layers = other.layers();
  klens::rank_options other_options = options_for(other);
  other_options.positions = 9;
  check_same(drawn, klens::rank_layers(other_layers, other, schemes, metrics, other_options));

  positioned_toy_model positioned;
  auto positioned_layers = positioned.layers();
  const klens::scores cheaper = klens::rank_layers(positioned_layers, positioned, schemes, metrics, options);
  check_same(drawn, cheaper);
  CHECK(cheaper.cost.forwards < drawn.cost.forwards);  // the head is computed at these positions only

  options.seed = 2;
  const klens::scores redrawn = klens::rank_layers(layers, model, schemes, metrics, options);
  CHECK(redrawn.candidates[0].metrics[0].mean != drawn.candidates[0].metrics[0].mean);
}

TEST_CASE("rank_layers: a scan taken up again ends as one that never stopped") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  std::vector<klens::scan_checkpoint> checkpoints;
  options.checkpoint = [&](const klens::scan_checkpoint& at) { checkpoints.push_back(at); };
  const klens::scores whole = klens::rank_layers(layers, model, schemes, metrics, options);
  REQUIRE(checkpoints.size() == 3);
  for (const klens::scan_checkpoint& from : checkpoints) {
    klens::rank_options again = options_for(model);
    again.resume = &from;
    const klens::scores resumed = klens::rank_layers(layers, model, schemes, metrics, again);
    check_same(whole, resumed);
    CHECK(resumed.cost.forwards == whole.cost.forwards);
    CHECK(resumed.reference.nll() == whole.reference.nll());
  }
  klens::rank_options wrong = options_for(model);
  wrong.resume = &checkpoints[0];
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, {"int4-channel"}, metrics, wrong),
                       doctest::Contains("of another scan"), klens::argument_error);
}

TEST_CASE("rank_layers: bad weights and logits are named") {
  toy_model model;
  model.second(3, 4) = std::numeric_limits<float>::quiet_NaN();
  auto layers = model.layers();
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, schemes, metrics, options_for(model)),
                       doctest::Contains("block.1.up.weight: weight [3, 4] is"), klens::numeric_error);

  toy_model healthy;
  layers = healthy.layers();
  for (klens::layer& each : layers) each.stage = 0;
  int calls = 0;
  const auto poisoned = [&](std::size_t batch) {
    klens::matrix<float> logits = healthy.batch_logits(batch);
    if (++calls == 4) logits(7, 2) = std::numeric_limits<float>::quiet_NaN();  // 1 and 2: the reference, and again
    return logits;
  };
  const klens::scores found = klens::rank_layers(layers, poisoned, schemes, metrics, options_for(healthy));
  CHECK(found.complete);
  for (const klens::layer_score& each : found.candidates) {
    const bool hit = each.layer == "block.0.up.weight" && each.scheme == "int8-g4";
    CHECK((each.result == klens::outcome::failed) == hit);
    CHECK(each.reason.starts_with(hit ? "batch 0: sequence 1 of the batch, position 2: " : ""));
    CHECK(each.positions == (hit ? 0 : 30));
  }
  const auto poisoned_reference = [&](std::size_t batch) {
    klens::matrix<float> logits = healthy.batch_logits(batch);
    logits(0, 0) = std::numeric_limits<float>::infinity();
    return logits;
  };
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, poisoned_reference, schemes, metrics, options_for(healthy)),
                       doctest::Contains("the untouched model, sequence 0 of the batch, position 0:"), klens::scan_error);
}

TEST_CASE("rank_layers: what cannot be is refused at the door, or left out by name") {
  toy_model model;
  auto layers = model.layers();
  const klens::rank_options options = options_for(model);
  CHECK_THROWS_AS((void)klens::rank_layers(std::span<klens::layer>{}, model, schemes, metrics, options), klens::argument_error);
  CHECK_THROWS_AS((void)klens::rank_layers(layers, model, {}, metrics, options), klens::argument_error);
  CHECK_THROWS_AS((void)klens::rank_layers(layers, model, schemes, {}, options), klens::argument_error);
  CHECK_THROWS_AS((void)klens::rank_layers(layers, model, {"fp16", "fp16"}, metrics, options), klens::argument_error);
  CHECK_THROWS_AS((void)klens::rank_layers(layers, model, schemes, {klens::kl{}, klens::kl{}}, options), klens::argument_error);
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, {"q4_0"}, metrics, options), doctest::Contains("q4_0"),
                       klens::argument_error);
  auto twice = layers;
  twice.push_back(layers[0]);
  CHECK_THROWS_AS((void)klens::rank_layers(twice, model, schemes, metrics, options), klens::argument_error);
  layers[0].stage = 4;
  CHECK_THROWS_AS((void)klens::rank_layers(layers, model, schemes, metrics, options), klens::argument_error);
  layers[0].stage = 1;

  klens::rank_options odd = options;
  odd.sequence_length = 7;
  CHECK_THROWS_WITH((void)klens::rank_layers(layers, model, schemes, metrics, odd),
                    doctest::Contains("not a whole number of sequences of 7"));
  klens::rank_options short_of_tokens = options;
  short_of_tokens.tokens.resize(29);
  CHECK_THROWS_WITH((void)klens::rank_layers(layers, model, schemes, metrics, short_of_tokens), doctest::Contains("29 tokens"));
  klens::rank_options foreign = options;
  foreign.tokens[4] = 19;
  CHECK_THROWS_WITH((void)klens::rank_layers(layers, model, schemes, metrics, foreign),
                    doctest::Contains("token 19 at 4 is outside"));

  klens::matrix<float> wide = support::wave(4, 32, 0.2);
  layers.emplace_back("wide.weight", wide);
  const klens::scores scores = klens::rank_layers(layers, model, {"q4_0", "int4-channel"}, metrics, options);
  CHECK(scores.skipped.size() == 3);
  CHECK(scores.skipped[0] == "block.0.up.weight: q4_0 cannot store rows of 12");
  CHECK(scores.candidates.size() == 5);
}

TEST_CASE("rank_layers: progress counts, and expects what comes") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.repeat_reference = false;
  std::vector<klens::scan_progress> seen;
  options.progress = [&](const klens::scan_progress& at) {
    seen.push_back(at);
    return true;
  };
  const klens::scores scores = klens::rank_layers(layers, model, schemes, metrics, options);
  REQUIRE(seen.size() == 18);
  CHECK(seen[0].candidates == 6);
  CHECK(seen[5].candidate == 6);
  CHECK(seen[17].batch == 2);
  CHECK(std::abs(seen[5].expected_forwards - scores.cost.forwards) < 1e-9);  // after a whole batch the rest is known
  CHECK(std::abs(seen[17].forwards - scores.cost.forwards) < 1e-9);
}
