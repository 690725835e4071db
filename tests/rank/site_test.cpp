#include <klens/site.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <klens/io/scores_json.hpp>
#include <klens/metric/measure.hpp>
#include <klens/rank/rank_layers.hpp>
#include <klens/weight_guard.hpp>
#include <optional>
#include <string>
#include <vector>

#include "support/same_scores.hpp"
#include "support/toy_model.hpp"
#include "support/toy_options.hpp"

using klens::site_kind;

namespace {

/// The toy model, which can keep what enters its second layer in fewer bits: rows of 12, after stage 1.
struct toy_with_state : support::toy_model {
  std::optional<klens::scheme> kept_as;

  void advance(state& at, std::size_t stage) {
    if (stage == 2 && kept_as)
      for (Eigen::Index r = 0; r < at.hidden.rows(); ++r)
        kept_as->round_trip(klens::row(std::as_const(at.hidden), r), klens::row(at.hidden, r));
    toy_model::advance(at, stage);
  }
  std::vector<klens::layer> sites(std::span<const site_kind> kinds) {
    std::vector<klens::layer> all;
    if (std::find(kinds.begin(), kinds.end(), site_kind::state) == kinds.end()) return all;
    all.push_back(klens::run_time_site("block.1.state", site_kind::state, 1, 12,
                                       {[this](const klens::scheme& as) { kept_as = as; }, [this] { kept_as.reset(); }}));
    all.back().stage = 2;
    return all;
  }
};
klens::matrix<float> all_logits(toy_with_state& model) {
  model.per_batch = model.sequences;
  toy_with_state::state at = model.begin(0);
  for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(at, stage);
  return model.logits(at);
}

static_assert(klens::site_offering_forward<toy_with_state>);
static_assert(!klens::site_offering_forward<support::toy_model>);

}  // namespace

TEST_CASE("a site is ranked beside weights, exactly as running the model with it changed says") {
  toy_with_state model;
  std::vector<klens::layer> layers = model.layers();
  const site_kind state = site_kind::state;
  for (klens::layer& each : klens::sites_of(model, std::span(&state, 1))) layers.push_back(each);
  const klens::scores scores =
      klens::rank_layers(layers, model, {"int4-channel", "int8-g4", "f32"}, {klens::kl{}}, support::options_for(model));
  CHECK(!model.kept_as);
  const klens::layer_score* const rounded = scores.find("block.1.state", "int4-channel");
  REQUIRE(rounded);
  CHECK(rounded->site == site_kind::state);
  CHECK(rounded->kind == "state");
  CHECK(rounded->bytes == klens::scheme{"int4-channel"}.bytes(1, 12));
  CHECK(rounded->result == klens::outcome::measured);
  CHECK(std::isnan(rounded->weight_sqnr_db));
  const klens::matrix<float> reference = all_logits(model);
  model.kept_as = klens::scheme{"int4-channel"};
  const double expected = std::get<0>(klens::measure(reference, all_logits(model), klens::kl{})).mean();
  CHECK(expected > 0);
  CHECK(rounded->metrics[0].mean == doctest::Approx(expected).epsilon(1e-9));
  const klens::layer_score* const exact = scores.find("block.1.state", "f32");
  REQUIRE(exact);
  CHECK(exact->result == klens::outcome::weights_unchanged);
  CHECK(exact->metrics[0].mean == 0);
  CHECK(scores.find("block.0.up.weight", "f32")->site == site_kind::weights);

  const klens::scores again = klens::scores_from_json(klens::to_json(klens::scores_file{{}, scores})).result;
  support::check_same(again, scores);
  nlohmann::json older = klens::to_json(klens::scores_file{{}, scores});
  for (nlohmann::json& each : older["candidates"]) each.erase("site");
  CHECK(klens::scores_from_json(older).result.candidates.back().site == site_kind::weights);
}

TEST_CASE("what a site cannot be stored as is left out with the reason, and each layer has the schemes that are its own") {
  toy_with_state model;
  std::vector<klens::layer> layers = model.layers();
  const site_kind state = site_kind::state;
  for (klens::layer& each : klens::sites_of(model, std::span(&state, 1))) layers.push_back(each);
  layers.front().schemes = {"int8-channel"};
  for (klens::layer& each : layers)  // so that the forward, which shows no inputs, need not
    if (each.site == site_kind::weights)
      each.inputs = std::make_shared<const klens::layer_inputs>(klens::layer_inputs{1, std::vector<float>(12, 1.f), {}});
  const klens::scores scores = klens::rank_layers(layers, model, {"int4-g64", "q8_0", "int4-channel-imp", "int8-channel"},
                                                  {klens::kl{}}, support::options_for(model));
  const auto left_out = [&](const std::string& sentence) {
    return std::find(scores.skipped.begin(), scores.skipped.end(), sentence) != scores.skipped.end();
  };
  CHECK(left_out("block.1.state: int4-g64 has groups of 64, which would reach across its vectors of 12"));
  CHECK(left_out("block.1.state: q8_0 cannot store vectors of 12"));
  CHECK(left_out("block.1.state: int4-channel-imp looks at the inputs of a weight matrix, and this is none"));
  CHECK(left_out("block.1.up.weight: q8_0 cannot store rows of 12"));
  CHECK(scores.find("block.1.state", "int8-channel"));
  CHECK(!scores.find("block.0.up.weight", "int4-g64"));
  CHECK(scores.find("block.1.up.weight", "int4-g64"));
}

TEST_CASE("a site has no weights to load, and a model without a kind of site says so") {
  toy_with_state model;
  const site_kind state = site_kind::state, kv = site_kind::kv;
  klens::layer site = klens::sites_of(model, std::span(&state, 1)).front();
  CHECK_THROWS_WITH_AS((void)site.load(),
                       "block.1.state: comes into being while the model runs; it has no weights to read or write",
                       klens::argument_error);
  CHECK_THROWS_WITH_AS((void)klens::sites_of(model, std::span(&kv, 1)), "the model has no site of the kind kv",
                       klens::argument_error);
  klens::detail::expect_finite_weights(site);
  {
    klens::weight_guard guard{site};
    (void)guard.apply("fp16");
    CHECK(model.kept_as);
    CHECK(guard.changed());
  }
  CHECK(!model.kept_as);
}

TEST_CASE("kinds of sites by name") {
  CHECK(klens::parse_site_kinds("state,weights") == std::vector{site_kind::state, site_kind::weights});
  for (const site_kind each : {site_kind::weights, site_kind::activations, site_kind::kv, site_kind::state, site_kind::conv})
    CHECK(klens::site_kind_of(klens::name_of(each)) == each);
  CHECK_THROWS_WITH_AS((void)klens::parse_site_kinds("weights,cache"),
                       "unknown kind of site 'cache'; a site is weights, activations, kv, state or conv",
                       klens::argument_error);
  CHECK_THROWS_AS((void)klens::parse_site_kinds("kv,kv"), klens::argument_error);
  CHECK_THROWS_AS((void)klens::parse_site_kinds(""), klens::argument_error);
}
