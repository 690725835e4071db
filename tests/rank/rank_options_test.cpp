#include <klens/rank/rank_options.hpp>

#include <doctest/doctest.h>

#include <klens/rank/rank_layers.hpp>

#include <cmath>

#include "support/toy_options.hpp"

namespace {

using support::options_for;

// A user's rule: layers below a damage are settled after the first look.
struct loud_only {
  double least;
  [[nodiscard]] std::vector<klens::standing> operator()(const klens::look& at) const {
    std::vector<klens::standing> now(at.standings.begin(), at.standings.end());
    for (std::size_t c = 0; c < now.size(); ++c)
      if (klens::mean_of(at.candidates[c]) < least) now[c] = klens::standing::below;
    return now;
  }
  [[nodiscard]] std::string name() const { return "loud_only"; }
};

}  // namespace

TEST_CASE("stop: candidates that are settled leave, and what they had is kept") {
  support::toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  const klens::scores whole = klens::rank_layers(layers, model, {"int8-channel", "int2-channel"}, {klens::kl{}}, options);
  options.stop = loud_only{0.003};  // int8 is below, int2 above
  const klens::scores early = klens::rank_layers(layers, model, {"int8-channel", "int2-channel"}, {klens::kl{}}, options);
  CHECK(early.complete);
  for (std::size_t c = 0; c < early.candidates.size(); ++c) {
    const bool loud = early.candidates[c].scheme == "int2-channel";
    CHECK(early.candidates[c].place == (loud ? klens::standing::open : klens::standing::below));
    CHECK(early.candidates[c].positions == (loud ? 30 : 10));
    if (loud) CHECK(early.candidates[c].metrics[0].mean == whole.candidates[c].metrics[0].mean);
  }
  CHECK(early.cost.forwards < whole.cost.forwards);
}

TEST_CASE("stop: when nobody is left the scan ends") {
  support::toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.stop = loud_only{1e9};
  const klens::scores scores = klens::rank_layers(layers, model, {"int4-channel"}, {klens::kl{}}, options);
  CHECK(scores.complete);
  CHECK(scores.positions == 10);
}

TEST_CASE("stop: the rule sees the metric that was asked for") {
  support::toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.stop = loud_only{0.01};
  options.rank_by = "mse";  // larger than 0.01 everywhere under int2
  const auto scores = klens::rank_layers(layers, model, {"int2-channel"}, {klens::kl{}, klens::mse{}}, options);
  for (const auto& each : scores.candidates) CHECK((each.place == klens::standing::open) == (each.metrics[1].mean > 0.01));
  options.rank_by = "beauty";
  CHECK_THROWS_AS((void)klens::rank_layers(layers, model, {"int2-channel"}, {klens::kl{}}, options), klens::argument_error);
}

TEST_CASE("stop: a scan taken up after a look goes on with those who were left") {
  support::toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.stop = loud_only{0.003};
  std::vector<klens::scan_checkpoint> checkpoints;
  options.checkpoint = [&](const klens::scan_checkpoint& at) { checkpoints.push_back(at); };
  const auto whole = klens::rank_layers(layers, model, {"int8-channel", "int2-channel"}, {klens::kl{}}, options);
  options.checkpoint = nullptr;
  options.resume = &checkpoints[0];
  const auto resumed = klens::rank_layers(layers, model, {"int8-channel", "int2-channel"}, {klens::kl{}}, options);
  for (std::size_t c = 0; c < whole.candidates.size(); ++c) {
    CHECK(resumed.candidates[c].metrics[0].mean == whole.candidates[c].metrics[0].mean);
    CHECK(resumed.candidates[c].place == whole.candidates[c].place);
  }
}

TEST_CASE("from_quantized: what restoring one layer saves of the whole damage") {
  support::toy_model model;
  auto layers = model.layers();
  const klens::matrix<float> first = model.first, second = model.second, head = model.head;
  klens::rank_options options = options_for(model);
  options.from = klens::direction::from_quantized;
  const auto scores = klens::rank_layers(layers, model, {"int3-channel"}, {klens::kl{}, klens::top1{}}, options);
  CHECK(model.first == first);
  CHECK(model.second == second);
  CHECK(model.head == head);

  // The same by hand: all three quantized, then without the second.
  const klens::scheme int3{"int3-channel"};
  const klens::matrix<float> reference = model.all_logits();
  klens::round_trip(int3, first, model.first);
  klens::round_trip(int3, head, model.head);
  const klens::matrix<float> restored = model.all_logits();
  klens::round_trip(int3, second, model.second);
  const klens::matrix<float> all = model.all_logits();
  const auto sums = klens::row_sums::kl | klens::row_sums::same_top;  // as above: loops for other metrics may round otherwise
  double whole = 0, left = 0;
  for (Eigen::Index t = 0; t < reference.rows(); ++t) {
    const auto known = klens::describe_reference(klens::row(reference, t));
    whole += klens::compare_rows(klens::row(reference, t), klens::row(all, t), known, sums).kl / 30;
    left += klens::compare_rows(klens::row(reference, t), klens::row(restored, t), known, sums).kl / 30;
  }
  REQUIRE(scores.quantized.size() == 1);
  CHECK(std::abs(scores.quantized[0].metrics[0].mean - whole) < 1e-12);
  CHECK(std::abs(scores.find("block.1.up.weight", "int3-channel")->metrics[0].mean - (whole - left)) < 1e-12);
}

TEST_CASE("from_quantized: a metric that is no mean over positions is refused") {
  support::toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.from = klens::direction::from_quantized;
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, {"int4-channel"}, {klens::sqnr{}}, options),
                       doctest::Contains("sqnr"), klens::argument_error);
}

TEST_CASE("from_quantized: an exception in the middle leaves every weight as it was") {
  support::toy_model model;
  auto layers = model.layers();
  for (klens::layer& each : layers) each.stage = 0;
  const klens::matrix<float> first = model.first, second = model.second, head = model.head;
  int calls = 0;
  const auto failing = [&](std::size_t batch) -> klens::matrix<float> {
    if (++calls == 4) throw std::runtime_error{"the engine gave up"};
    return model.batch_logits(batch);
  };
  klens::rank_options options = options_for(model);
  options.from = klens::direction::from_quantized;
  CHECK_THROWS_AS((void)klens::rank_layers(layers, failing, {"int4-channel"}, {klens::kl{}}, options), klens::scan_error);
  CHECK(model.first == first);
  CHECK(model.second == second);
  CHECK(model.head == head);
}
