// The methods local and refine of rank_layers.
#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <klens/rank/merge.hpp>
#include <set>
#include <string>
#include <support/near.hpp>
#include <support/residual_model.hpp>
#include <support/toy_model.hpp>
#include <vector>

using support::residual_model;

namespace {

const std::vector<klens::scheme> schemes{"int4-channel", "int6-channel"};

klens::rank_options options_for(const residual_model& model, klens::scan_method method) {
  klens::rank_options options;
  options.batches = model.batches();
  options.sequence_length = model.length;
  options.tokens = model.tokens();
  options.method = method;
  options.local.calibrations = 6;
  return options;
}

klens::scores ranked(residual_model& model, const klens::rank_options& options) {
  std::vector<klens::layer> layers = model.layers();
  return klens::rank_layers(layers, model, schemes, {klens::kl{}}, options);
}

double kl_of(const klens::layer_score& each) { return each.metrics.front().mean; }

}  // namespace

TEST_CASE("local: what is measured has the bits of the exact scan, what is predicted is energy times gain") {
  residual_model model;
  klens::rank_options options = options_for(model, klens::scan_method::local);
  const klens::scores local = ranked(model, options);
  options.method = klens::scan_method::exact;
  options.batches = 1;  // the one that local looks at
  const klens::scores exact = ranked(model, options);
  REQUIRE(local.candidates.size() == exact.candidates.size());
  CHECK(local.complete);
  std::size_t predicted = 0, measured = 0;
  for (std::size_t c = 0; c < exact.candidates.size(); ++c) {
    const klens::layer_score &found = local.candidates[c], &truth = exact.candidates[c];
    INFO(found.layer, " as ", found.scheme);
    CHECK(found.positions == 32);
    if (found.source == klens::score_source::exact) {
      CHECK(kl_of(found) == kl_of(truth));
      CHECK(found.result == truth.result);
      ++measured;
    } else {
      CHECK(found.result == klens::outcome::measured);
      CHECK(kl_of(found) == near{found.local_energy * found.gain, 1e-12});
      CHECK(found.metrics.front().low < kl_of(found));
      CHECK(kl_of(found) < found.metrics.front().high);
      ++predicted;
    }
  }
  // Two schemes of the head and of the layer that two stages read, and six calibrations; what changes no logit is known exactly.
  CHECK(measured + predicted == 30);
  CHECK(measured >= 2 + 2 + 6);
  CHECK(measured <= 2 + 2 + 6 + 2);
}

TEST_CASE("local: the energy is |change|^2 / |residual|^2 at the exit of the candidate's own stage") {
  residual_model model;
  const klens::scores local = ranked(model, options_for(model, klens::scan_method::local));
  residual_model changed = model;
  klens::round_trip(klens::scheme{"int4-channel"}, model.weights[4], changed.weights[4]);
  residual_model::state untouched = model.begin(0), perturbed = model.begin(0);
  for (std::size_t stage = 0; stage <= 5; ++stage) {
    model.advance(untouched, stage);
    changed.advance(perturbed, stage);
  }
  long double energy = 0;
  for (Eigen::Index r = 0; r < untouched.hidden.rows(); ++r) {
    long double square = 0, size = 0;
    for (Eigen::Index i = 0; i < untouched.hidden.cols(); ++i) {
      square += std::pow(static_cast<long double>(perturbed.hidden(r, i)) - untouched.hidden(r, i), 2);
      size += std::pow(static_cast<long double>(untouched.hidden(r, i)), 2);
    }
    energy += square / size / untouched.hidden.rows();
  }
  CHECK(local.find("block.2.up.weight", "int4-channel")->local_energy == near{energy, 1e-12});
}

TEST_CASE("local: nine in ten of the 95 % intervals hold the exact score, for an eighth of the cost") {
  residual_model model;
  klens::rank_options options = options_for(model, klens::scan_method::local);
  const klens::scores local = ranked(model, options);
  options.method = klens::scan_method::exact;
  const klens::scores exact = ranked(model, options);
  CHECK(local.cost.forwards < 0.125 * exact.cost.forwards);
  std::size_t held = 0;
  for (std::size_t c = 0; c < exact.candidates.size(); ++c) {
    const klens::metric_score& range = local.candidates[c].metrics.front();
    held += range.low <= kl_of(exact.candidates[c]) && kl_of(exact.candidates[c]) <= range.high ? 1 : 0;
  }
  CHECK(static_cast<double>(held) >= 0.9 * static_cast<double>(exact.candidates.size()));
}

TEST_CASE("local: a layer that the forward does not use is told from a robust one") {
  residual_model model;
  const klens::scores local = ranked(model, options_for(model, klens::scan_method::local));
  for (const klens::scheme& each : schemes) {
    const klens::layer_score* const unused = local.find("unused.weight", each.name());
    CHECK(unused->result == klens::outcome::output_unchanged);
    CHECK(kl_of(*unused) == 0);
  }
}

TEST_CASE("local: the same bits for the same seed, other calibrations for another") {
  residual_model model;
  klens::rank_options options = options_for(model, klens::scan_method::local);
  const klens::scores first = ranked(model, options), again = ranked(model, options);
  options.seed = 2;
  const klens::scores other = ranked(model, options);
  bool differs = false;
  for (std::size_t c = 0; c < first.candidates.size(); ++c) {
    CHECK(kl_of(first.candidates[c]) == kl_of(again.candidates[c]));
    differs = differs || first.candidates[c].source != other.candidates[c].source;
  }
  CHECK(differs);
}

TEST_CASE("local: damage that is far from quadratic is said") {
  residual_model model;
  std::vector<klens::layer> layers = model.layers();
  klens::rank_options options = options_for(model, klens::scan_method::local);
  CHECK(klens::rank_layers(layers, model, {"int8-channel"}, {klens::kl{}}, options).remarks.empty());
  model.head *= 40;  // logits so far apart that a small change turns the answer over
  std::vector<klens::layer> sharp = model.layers();
  const klens::scores found = klens::rank_layers(sharp, model, {"int2-channel"}, {klens::kl{}}, options);
  REQUIRE(!found.remarks.empty());
  CHECK(found.remarks.front().find("not quadratic") != std::string::npos);
}

TEST_CASE("local and refine: weights come back bit for bit, also when the caller stops") {
  for (const klens::scan_method method : {klens::scan_method::local, klens::scan_method::refine}) {
    residual_model model;
    const residual_model untouched = model;
    klens::rank_options options = options_for(model, method);
    options.stop = klens::top{3};
    std::size_t calls = 0;
    options.progress = [&calls](const klens::scan_progress& at) {
      CHECK(std::isfinite(at.seconds_left));
      return ++calls < 11;
    };
    const klens::scores part = ranked(model, options);
    CHECK(!part.complete);
    options.progress = nullptr;
    CHECK(ranked(model, options).complete);
    for (std::size_t s = 0; s < model.weights.size(); ++s) {
      const auto bytes = static_cast<std::size_t>(model.weights[s].size()) * sizeof(float);
      CHECK(std::memcmp(model.weights[s].data(), untouched.weights[s].data(), bytes) == 0);
    }
  }
}

TEST_CASE("refine: the top that the exact scan finds but for an exchange of seats, with far fewer forwards") {
  residual_model model;
  klens::rank_options options = options_for(model, klens::scan_method::exact);
  const klens::scores exact = ranked(model, options);
  options.method = klens::scan_method::refine;
  options.stop = klens::top{5};
  const klens::scores refined = ranked(model, options);
  CHECK(refined.complete);
  CHECK(refined.cost.forwards < 0.3 * exact.cost.forwards);
  for (const klens::scheme& each : schemes) {
    const auto top_of = [&each](const klens::scores& of) {
      std::set<std::string> names;
      for (const klens::layer_score* candidate : of.ranked("kl"))
        if (candidate->scheme == each.name() && names.size() < 5) names.insert(candidate->layer);
      return names;
    };
    std::size_t found = 0;
    for (const std::string& name : top_of(exact)) found += top_of(refined).contains(name) ? 1 : 0;
    CHECK(found >= 4);  // one exchange of seats
  }
}

TEST_CASE("refine: nothing in doubt costs no more than local") {
  residual_model model;
  klens::rank_options options = options_for(model, klens::scan_method::local);
  const double local = ranked(model, options).cost.forwards;
  options.method = klens::scan_method::refine;
  options.stop = klens::top{1000};  // all of them
  CHECK(ranked(model, options).cost.forwards == local);
}

TEST_CASE("local: its scores are not merged with others") {
  residual_model model;
  const klens::scores local = ranked(model, options_for(model, klens::scan_method::local));
  CHECK_THROWS_WITH_AS((void)klens::merge(local, local), doctest::Contains("local and refine"), klens::argument_error);
}

TEST_CASE("local and refine: what they cannot do is refused, with the way out") {
  residual_model model;
  const auto refused = [&](const char* why, auto change, const std::vector<klens::any_metric>& metrics = {klens::kl{}}) {
    klens::rank_options options = options_for(model, klens::scan_method::local);
    change(options);
    std::vector<klens::layer> layers = model.layers();
    CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, schemes, metrics, options), doctest::Contains(why),
                         klens::argument_error);
  };
  refused("kl alone", [](auto&) {}, {klens::kl{}, klens::mse{}});
  refused("method exact", [](auto& o) { o.from = klens::direction::from_quantized; });
  refused("method exact", [](auto& o) { o.checkpoint = [](const klens::scan_checkpoint&) {}; });
  refused("options.local.batches", [](auto& o) { o.local.batches = 0; });
  refused("options.local.calibrations", [](auto& o) { o.local.calibrations = 1; });
  refused("options.stop", [](auto& o) { o.method = klens::scan_method::refine; });

  klens::rank_options options;
  options.method = klens::scan_method::local;
  support::toy_model toy;
  std::vector<klens::layer> layers = toy.layers();
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, toy, schemes, {klens::kl{}}, options), doctest::Contains("residual"),
                       klens::argument_error);
  const auto whole = [&] { return toy.all_logits(); };
  for (klens::layer& each : layers) each.stage = 0;
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, whole, schemes, {klens::kl{}}, options), doctest::Contains("residual"),
                       klens::argument_error);
}
