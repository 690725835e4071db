// One candidate's failure is its own; what is wrong with the model or the machine ends the scan.
#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <klens/rank/merge.hpp>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "support/same_scores.hpp"
#include "support/toy_options.hpp"

using support::options_for;
using support::toy_model;

TEST_CASE("a scale that its storage cannot hold fails that candidate, and the others score as without it") {
  toy_model model;
  model.second(2, 3) = 5e7f;  // its int8 scale is beyond fp16
  const klens::matrix<float> before = model.second;
  auto layers = model.layers();
  for (const auto from : {klens::direction::from_reference, klens::direction::from_quantized}) {
    klens::rank_options options = options_for(model);
    options.from = from;
    std::size_t reports = 0;
    options.progress = [&](const klens::scan_progress&) { ++reports; };
    const klens::scores found = klens::rank_layers(layers, model, {"int8-channel", "bf16"}, options);
    CHECK(found.complete);
    const klens::layer_score& failed = *found.find("block.1.up.weight", "int8-channel");
    CHECK(failed.result == klens::outcome::failed);
    CHECK(failed.reason.starts_with("batch 0: "));
    CHECK(failed.positions == 0);
    CHECK(!failed.says_damage());
    CHECK(found.ranked("kl").back() == &failed);
    CHECK(std::ranges::count(found.candidates, klens::outcome::failed, &klens::layer_score::result) == 1);
    CHECK(found.find("block.1.up.weight", "bf16")->positions == 30);
    CHECK(model.second == before);
    CHECK(reports > 0);

    std::vector<klens::layer> others{layers[0], layers[2]};
    if (from == klens::direction::from_reference) {
      const klens::scores without = klens::rank_layers(others, model, {"int8-channel"}, options);
      CHECK(without.candidates[0].metrics[0].mean == found.find("block.0.up.weight", "int8-channel")->metrics[0].mean);
    }
  }
}

TEST_CASE("logits that overflow under one candidate fail it, in whatever batch") {
  toy_model model;
  auto layers = model.layers();
  for (klens::layer& each : layers) each.stage = 0;
  const klens::matrix<float> first = model.first;
  const auto forward = [&](std::size_t batch) -> klens::matrix<float> {
    klens::matrix<float> logits = model.batch_logits(batch);
    if (batch == 1 && model.first != first) logits(3, 2) = std::numeric_limits<float>::infinity();
    return logits;
  };
  const klens::scores found = klens::rank_layers(layers, forward, {"int4-channel"}, options_for(model));
  CHECK(found.complete);
  CHECK(found.candidates[0].result == klens::outcome::failed);
  CHECK(found.candidates[0].reason.find("batch 1: sequence 0 of the batch, position 3") != std::string::npos);
  CHECK(found.candidates[0].metrics[0].by_sequence.empty());
  CHECK(found.candidates[1].positions == 30);

  // Merged with a scan in which it did not fail, it has failed.
  const klens::scores clean = klens::rank_layers(
      layers, [&](std::size_t b) { return model.batch_logits(b); }, {"int4-channel"}, options_for(model));
  for (const klens::scores& joint : {klens::merge(found, clean), klens::merge(clean, found)}) {
    CHECK(joint.candidates[0].result == klens::outcome::failed);
    CHECK(joint.candidates[0].reason == found.candidates[0].reason);
    CHECK(joint.candidates[1].positions == 60);
  }
}

TEST_CASE("a failed candidate is not shown to the stopping rule, and a scan whose candidates all failed ends") {
  toy_model model;
  model.second(2, 3) = 5e7f;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.stop = klens::top{1};
  const klens::scores found = klens::rank_layers(layers, model, {"int8-channel"}, options);
  CHECK(found.find("block.1.up.weight", "int8-channel")->place == klens::standing::open);
  std::vector<klens::layer> only{layers[1]};
  CHECK(klens::rank_layers(only, model, {"int8-channel"}, options).complete);
}

TEST_CASE("what is wrong with the machine ends the scan, with its advice and all finished scores") {
  toy_model model;
  auto layers = model.layers();
  for (klens::layer& each : layers) each.stage = 0;
  int calls = 0;
  const auto forward = [&](std::size_t batch) -> klens::matrix<float> {
    if (++calls == 5) throw std::bad_alloc{};
    return model.batch_logits(batch);
  };
  try {
    (void)klens::rank_layers(layers, forward, {"int4-channel"}, options_for(model));
    FAIL("no exception");
  } catch (const klens::scan_error& caught) {
    const std::string text = caught.what();
    CHECK(text.starts_with("batch 0: head.weight as int4-channel: out of memory; let the forward take fewer sequences"));
    CHECK(caught.partial.candidates[0].positions == 10);
  }
}

TEST_CASE("a scan that is taken up again goes on with seconds and forwards") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  klens::scan_checkpoint at;
  options.checkpoint = [&](const klens::scan_checkpoint& now) {
    if (now.batches == 1) at = now;
  };
  (void)klens::rank_layers(layers, model, "int4-channel", options);
  CHECK(at.so_far.cost.seconds > 0);
  at.so_far.cost.seconds = 1000;
  options.checkpoint = nullptr;
  options.resume = &at;
  double least = 1e9;
  options.progress = [&](const klens::scan_progress& now) { least = std::min(least, now.seconds); };
  CHECK(klens::rank_layers(layers, model, "int4-channel", options).cost.seconds > 1000);
  CHECK(least > 1000);
  options.stop = klens::budget{.seconds = 1001};  // 1000 are spent: no third batch
  CHECK(klens::rank_layers(layers, model, "int4-channel", options).candidates[0].positions == 20);

  klens::scan_checkpoint broken = at;
  broken.so_far.candidates[1].metrics[0].by_sequence.clear();
  options.resume = &broken;
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options),
                       doctest::Contains("cannot be taken up"), klens::argument_error);
  broken = at;
  broken.batches = static_cast<std::size_t>(-1);
  CHECK_THROWS_AS((void)klens::rank_layers(layers, model, "int4-channel", options), klens::argument_error);
}
