// rank_options::counted: which positions count.
#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "support/same_scores.hpp"
#include "support/toy_options.hpp"

namespace {

using support::positioned_toy_model;
using support::toy_model;

klens::rank_options with_all_metrics(const toy_model& model) {
  klens::rank_options options = support::options_for(model);
  options.metrics = klens::all_metrics();
  return options;
}

// Right padding: of each sequence of five the first 5, 3, 1, 4, 0, 2 positions count.
std::vector<bool> padding() {
  std::vector<bool> counted;
  for (const std::size_t kept : {5, 3, 1, 4, 0, 2})
    for (std::size_t p = 0; p < 5; ++p) counted.push_back(p < kept);
  return counted;
}

}  // namespace

TEST_CASE("counted: positions that do not count enter neither KL nor perplexity") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = with_all_metrics(model);
  options.counted = padding();
  const klens::scores found = klens::rank_layers(layers, model, {"int2-channel"}, options);
  CHECK(found.positions == 15);
  CHECK(found.tokens == 30);
  CHECK(found.candidates[0].positions == 15);

  // By hand: the mean over the fifteen positions, and over the next tokens that count.
  const klens::matrix<float> reference = model.all_logits();
  const klens::matrix<float> kept = model.first;
  klens::round_trip(klens::scheme{"int2-channel"}, kept, model.first);
  const klens::matrix<float> observed = model.all_logits();
  model.first = kept;
  const auto tokens = model.tokens();
  double kl = 0, nll = 0, next = 0;
  for (std::size_t t = 0; t < 30; ++t) {
    if (!options.counted[t]) continue;
    const auto x = klens::row(reference, static_cast<Eigen::Index>(t)), y = klens::row(observed, static_cast<Eigen::Index>(t));
    const auto known = klens::describe_reference(x);
    kl += klens::compare_rows(x, y, known, klens::row_sums::kl).kl / 15;
    if (t % 5 == 4 || !options.counted[t + 1]) continue;
    nll += known.log_sum_exp - static_cast<double>(x[static_cast<std::size_t>(tokens[t + 1])]);
    ++next;
  }
  CHECK(std::abs(found.candidates[0].metrics[found.index_of("kl")].mean - kl) < 1e-12);
  CHECK(next == 4 + 2 + 0 + 3 + 0 + 1);
  CHECK(std::abs(found.reference.nll() - nll / next) < 1e-12);
  CHECK(found.candidates[0].metrics[found.index_of("delta_ce")].by_sequence[0].weight == 4);
}

TEST_CASE("a token of -1 is read and not asked for: its position counts, perplexity passes it over") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = with_all_metrics(model);
  options.tokens[7] = -1;
  const klens::scores found = klens::rank_layers(layers, model, {"int4-channel"}, options);
  CHECK(found.positions == 30);
  CHECK(found.reference.nll_by_sequence[1].weight == 3);
  CHECK(found.candidates[0].metrics[found.index_of("delta_ce")].by_sequence[1].weight == 3);
  CHECK(found.candidates[0].metrics[found.index_of("kl")].by_sequence[1].weight == 5);
  options.tokens[7] = -2;
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, {"int4-channel"}, options),
                       doctest::Contains("token -2 at 7 is outside the vocabulary"), klens::scan_error);
}

TEST_CASE("counted: every position is what no mask is, and batches and strengths change no bit") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = with_all_metrics(model);
  const klens::scores plain = klens::rank_layers(layers, model, {"int4-channel"}, options);
  options.counted.assign(30, true);
  support::check_same(klens::rank_layers(layers, model, {"int4-channel"}, options), plain);

  options.counted = padding();
  const klens::scores masked = klens::rank_layers(layers, model, {"int4-channel"}, options);
  positioned_toy_model positioned;
  positioned.per_batch = 1;  // one batch has no position that counts
  auto positioned_layers = positioned.layers();
  klens::rank_options by_one = with_all_metrics(positioned);
  by_one.counted = padding();
  support::check_same(klens::rank_layers(positioned_layers, positioned, {"int4-channel"}, by_one), masked);
  options.counted[0] = false;
  CHECK(klens::rank_layers(layers, model, {"int4-channel"}, options).candidates[0].metrics[0].mean !=
        masked.candidates[0].metrics[0].mean);
}

TEST_CASE("counted: drawn positions are drawn from those that count, and a taken up scan is the same") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = with_all_metrics(model);
  options.counted = padding();
  options.positions = 9;
  std::vector<klens::scan_checkpoint> checkpoints;
  options.checkpoint = [&](const klens::scan_checkpoint& at) { checkpoints.push_back(at); };
  const klens::scores drawn = klens::rank_layers(layers, model, {"int4-channel"}, options);
  CHECK(drawn.candidates[0].positions == 9);
  const auto& sums = drawn.candidates[0].metrics[0].by_sequence;
  CHECK(sums[0].weight == 3);
  CHECK(sums[4].weight == 0);
  options.checkpoint = nullptr;
  options.resume = &checkpoints[1];
  support::check_same(klens::rank_layers(layers, model, {"int4-channel"}, options), drawn);
}

TEST_CASE("counted: a mask of another length, or of nothing, is refused") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = with_all_metrics(model);
  options.counted.assign(29, true);
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options), doctest::Contains("29 entries"),
                       klens::shape_error);
  options.tokens.clear();
  options.metrics = {klens::kl{}};
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options), doctest::Contains("29 entries"),
                       klens::scan_error);
  options.counted.assign(30, false);
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options), doctest::Contains("no position count"),
                       klens::argument_error);
}

TEST_CASE("sequences of one token have no next token: delta_ce and perplexity are unknown, a remark says so") {
  toy_model model;
  model.length = 1;
  model.per_batch = 6;
  auto layers = model.layers();
  const klens::scores found = klens::rank_layers(layers, model, {"int4-channel"}, with_all_metrics(model));
  const klens::metric_score& delta = found.candidates[0].metrics[found.index_of("delta_ce")];
  for (const double each : {delta.mean, delta.low, delta.high, found.reference.nll(), found.perplexity(found.candidates[0])}) {
    CHECK(std::isnan(each));
    CHECK(!std::signbit(each));  // "-nan" is no word for unknown
  }
  CHECK(found.candidates[0].metrics[0].mean > 0);
  REQUIRE(found.remarks.size() == 1);
  CHECK(found.remarks[0].starts_with("delta_ce: no position counts for it"));
}
