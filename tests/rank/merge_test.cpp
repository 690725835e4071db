#include <klens/rank/merge.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <klens/rank/rank_layers.hpp>

#include "support/same_scores.hpp"
#include "support/toy_model.hpp"

namespace {

// The toy model on some of its sequences.
struct part_of_toy : support::toy_model {
  std::size_t first = 0;
  [[nodiscard]] klens::matrix<float> operator()() {
    return all_logits().middleRows(static_cast<Eigen::Index>(first * length), rows());
  }
  [[nodiscard]] Eigen::Index rows() const { return static_cast<Eigen::Index>(taken * length); }
  std::size_t taken = 6;
};

klens::scores scan(std::size_t first, std::size_t taken, const std::vector<klens::any_metric>& metrics = klens::all_metrics(),
                   klens::any_stopping_rule stop = {}, klens::direction from = klens::direction::from_reference) {
  part_of_toy model;
  model.first = first;
  model.taken = taken;
  auto layers = model.layers();
  for (klens::layer& each : layers) each.stage = 0;
  klens::rank_options options;
  options.sequence_length = model.length;
  options.stop = std::move(stop);
  options.from = from;
  const auto tokens = model.tokens();
  options.tokens.assign(tokens.begin() + static_cast<std::ptrdiff_t>(first * model.length),
                        tokens.begin() + static_cast<std::ptrdiff_t>((first + taken) * model.length));
  const auto forward = [&model] { return model(); };
  return klens::rank_layers(layers, forward, {"int4-channel", "int8-channel"}, metrics, options);
}

}  // namespace

TEST_CASE("merge: parts give what one scan over all gives, bit for bit") {
  const klens::scores whole = scan(0, 6);
  const klens::scores joint = klens::merge(klens::merge(scan(0, 1), scan(1, 3)), scan(4, 2));
  CHECK(joint.sequences == 6);
  CHECK(joint.positions == 30);
  CHECK(joint.candidates.front().positions == 30);
  support::check_same(joint, whole);
  CHECK(std::abs(joint.cost.forwards - whole.cost.forwards) < 1e-12);
}

TEST_CASE("merge: candidates are matched by layer and scheme, not by where they stand in the list") {
  klens::scores second = scan(2, 4);
  const klens::scores joint = klens::merge(scan(0, 2), second);
  std::ranges::reverse(second.candidates);
  support::check_same(klens::merge(scan(0, 2), second), joint);

  klens::scores from_quantized = scan(0, 2, {klens::kl{}}), reversed;
  from_quantized.quantized = {{"int4-channel", {{}}}, {"int8-channel", {{}}}};
  from_quantized.quantized[0].metrics[0].by_sequence = {{4, 2}};
  from_quantized.quantized[1].metrics[0].by_sequence = {{1, 2}};
  reversed = from_quantized;
  std::ranges::reverse(reversed.quantized);
  const klens::scores same = klens::merge(from_quantized, reversed);
  CHECK(same.quantized[0].metrics[0].mean == 2.0);
  CHECK(same.quantized[1].metrics[0].mean == 0.5);
}

TEST_CASE("merge: what restoring saves merges as it is, below 0 too") {
  const auto part = [](std::size_t first, std::size_t taken) {
    return scan(first, taken, {klens::kl{}, klens::top1{}}, {}, klens::direction::from_quantized);
  };
  const klens::scores whole = part(0, 6);
  support::check_same(klens::merge(part(0, 2), part(2, 4)), whole);
  bool below = false;  // an interval that a divergence itself could not have
  for (const klens::layer_score& each : whole.candidates) below = below || each.metrics[0].low < 0;
  CHECK(below);
}

TEST_CASE("merge: scans that do not belong together are refused") {
  const klens::scores one = scan(0, 2);
  CHECK_THROWS_WITH_AS((void)klens::merge(one, scan(2, 2, {klens::kl{}})), doctest::Contains("metrics differ"),
                       klens::argument_error);
  klens::scores other = scan(2, 2);
  other.candidates.pop_back();
  CHECK_THROWS_WITH_AS((void)klens::merge(one, other), doctest::Contains("layers or schemes differ"), klens::argument_error);
  other = scan(2, 2);
  other.complete = false;
  CHECK_THROWS_WITH_AS((void)klens::merge(one, other), doctest::Contains("interrupted"), klens::argument_error);
  other = scan(2, 2);
  other.candidates[1].place = klens::standing::below;
  CHECK_THROWS_WITH_AS((void)klens::merge(one, other), doctest::Contains("early"), klens::argument_error);
}
