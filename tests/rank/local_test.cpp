// The methods local and refine of rank_layers.
#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <klens/rank/merge.hpp>
#include <klens/stats/rank_correlation.hpp>
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

klens::scores klens_scores_under(residual_model& model, const char* scheme, const klens::rank_options& options) {
  std::vector<klens::layer> layers = model.layers();
  return klens::rank_layers(layers, model, scheme, {klens::kl{}}, options);
}

double kl_of(const klens::layer_score& each) { return each.metrics.front().mean; }

}  // namespace

TEST_CASE("local: what only a whole model shows has the bits of the exact scan, all else is energy times gain") {
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
      CHECK(kl_of(found) == found.local_energy * found.gain);
      ++predicted;
    }
    if (found.result != klens::outcome::measured) continue;
    CHECK(found.metrics.front().low < kl_of(found));
    CHECK(kl_of(found) < found.metrics.front().high);
  }
  // Measured: two schemes of the head and of the layer that two stages read. Known without it: the layer that changes no logit.
  CHECK(measured == 2 + 2 + 2);
  CHECK(predicted == 24);
}

TEST_CASE("local: with every layer measured on all sequences, scores are nearly those of the exact scan") {
  residual_model model;
  klens::rank_options options = options_for(model, klens::scan_method::local);
  options.local.calibrations = 100;
  const klens::scores local = klens_scores_under(model, "int4-channel", options);
  options.method = klens::scan_method::exact;
  options.batches = 1;
  const klens::scores exact = klens_scores_under(model, "int4-channel", options);
  std::vector<double> found, truth;
  for (std::size_t c = 0; c < exact.candidates.size(); ++c) {
    found.push_back(kl_of(local.candidates[c]));
    truth.push_back(kl_of(exact.candidates[c]));
  }
  CHECK(klens::kendall_tau(found, truth).value > 0.9);
}

TEST_CASE("local: positions that do not count enter neither energies nor gains") {
  residual_model model;
  klens::rank_options options = options_for(model, klens::scan_method::local);
  options.counted.assign(model.tokens().size(), true);
  for (std::size_t at = 0; at < options.counted.size(); ++at) options.counted[at] = at % model.length < 5;
  const klens::scores part = ranked(model, options);
  struct cut_short : residual_model {  // the same model on the first five tokens of each sequence
    [[nodiscard]] state begin(std::size_t batch) const { return {{}, batch}; }
    void advance(state& at, std::size_t stage) const {
      residual_model::advance(at, stage);
      if (stage != 0) return;
      klens::matrix<float> kept(static_cast<Eigen::Index>(per_batch * 5), width);
      for (Eigen::Index r = 0; r < kept.rows(); ++r)
        kept.row(r) = at.hidden.row(r / 5 * static_cast<Eigen::Index>(length) + r % 5).eval();
      at.hidden = kept;
    }
  } short_model;
  klens::rank_options shorter = options_for(model, klens::scan_method::local);
  shorter.sequence_length = 5;
  shorter.tokens.clear();
  std::vector<klens::layer> layers = short_model.layers();
  const klens::scores cut = klens::rank_layers(layers, short_model, schemes, {klens::kl{}}, shorter);
  REQUIRE(cut.candidates.size() == part.candidates.size());
  for (std::size_t c = 0; c < cut.candidates.size(); ++c) {
    CHECK(part.candidates[c].positions == 20);
    if (cut.candidates[c].source == klens::score_source::exact) continue;
    CHECK(part.candidates[c].local_energy == near{cut.candidates[c].local_energy, 1e-12});
    CHECK(kl_of(part.candidates[c]) == near{kl_of(cut.candidates[c]), 1e-9});
  }
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
    differs = differs || kl_of(first.candidates[c]) != kl_of(other.candidates[c]);
  }
  CHECK(first.expected_tau == again.expected_tau);
  CHECK(differs);
}

TEST_CASE("local: the tau that it expects is about the one that it has, and one below 0.6 sends to exact") {
  residual_model model;
  klens::rank_options options = options_for(model, klens::scan_method::local);
  const klens::scores local = ranked(model, options);
  options.method = klens::scan_method::exact;
  const klens::scores exact = ranked(model, options);
  CHECK(std::isnan(exact.expected_tau));
  double truth = 0;
  for (const klens::scheme& each : schemes) {
    std::vector<double> found, measured;
    for (std::size_t c = 0; c < exact.candidates.size(); ++c)
      if (exact.candidates[c].scheme == each.name() && exact.candidates[c].result == klens::outcome::measured) {
        found.push_back(kl_of(local.candidates[c]));
        measured.push_back(kl_of(exact.candidates[c]));
      }
    truth += klens::kendall_tau(found, measured).value / static_cast<double>(schemes.size());
  }
  CHECK(local.expected_tau == near{truth, 0, 0.1});
  const auto advised = [](const klens::scores& of) {
    return std::ranges::any_of(of.remarks, [](const std::string& each) { return each.ends_with("use the method exact"); });
  };
  CHECK(advised(local) == (local.expected_tau < 0.6));
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

TEST_CASE("refine: the top that the exact scan finds, but for what it cannot tell apart itself, with far fewer forwards") {
  residual_model model;
  klens::rank_options options = options_for(model, klens::scan_method::exact);
  const klens::scores exact = ranked(model, options);
  options.method = klens::scan_method::refine;
  options.stop = klens::top{5};
  const klens::scores refined = ranked(model, options);
  CHECK(refined.complete);
  CHECK(refined.cost.forwards < 0.4 * exact.cost.forwards);
  for (const klens::scheme& each : schemes) {
    const auto top_of = [&each](const klens::scores& of) {
      std::vector<const klens::layer_score*> worst;
      for (const klens::layer_score* candidate : of.ranked("kl"))
        if (candidate->scheme == each.name() && worst.size() < 5) worst.push_back(candidate);
      return worst;
    };
    const double fifth = kl_of(*top_of(exact).back());
    std::size_t found = 0;
    for (const klens::layer_score* seated : top_of(refined))
      found += exact.find(seated->layer, seated->scheme)->metrics.front().high >= fifth ? 1 : 0;
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
