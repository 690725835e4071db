// docs/theory.md, section 6: local damage times gain.
#include <klens/metric/metrics.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <klens/detail/random.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/rank/rank_layers.hpp>
#include <support/near.hpp>
#include <support/residual_model.hpp>
#include <support/same_scores.hpp>
#include <vector>

using support::residual_model;

namespace {

// Mean KL when `change` is added to the residual stream at the entry of `stage`.
double kl_after(const residual_model& model, std::size_t stage, const klens::matrix<float>& change) {
  residual_model::state untouched = model.begin(0);
  for (std::size_t s = 0; s < stage; ++s) model.advance(untouched, s);
  residual_model::state changed = untouched;
  changed.hidden += change;
  for (std::size_t s = stage; s < model.stages(); ++s) {
    model.advance(untouched, s);
    model.advance(changed, s);
  }
  const klens::matrix<float> reference = model.logits(untouched), observed = model.logits(changed);
  double total = 0;
  for (Eigen::Index t = 0; t < reference.rows(); ++t) {
    const auto row = klens::row(reference, t);
    total += klens::compare_rows(row, klens::row(observed, t), klens::describe_reference(row), klens::row_sums::kl).kl;
  }
  return total / static_cast<double>(reference.rows());
}

// Noise of one length at every position.
klens::matrix<float> noise(double length, std::uint64_t seed) {
  klens::matrix<float> values = support::gaussian(32, residual_model::width, 1, seed);
  for (Eigen::Index r = 0; r < values.rows(); ++r) values.row(r) *= static_cast<float>(length) / values.row(r).norm();
  return values;
}

}  // namespace

TEST_CASE("theory 6.1: half the energy is half the KL, with an error that falls as the change does") {
  const residual_model model;
  const float half = std::sqrt(0.5f);
  for (const std::size_t stage : {2, 7, 12}) {
    double before = 1;
    for (const double length : {1.0, 0.25, 0.0625}) {
      // A change and its opposite: what is of third order cancels, and the fourth falls with the energy.
      const klens::matrix<float> change = noise(length, 3), opposite = -change;
      const double whole = kl_after(model, stage, change) + kl_after(model, stage, opposite);
      const double part = kl_after(model, stage, half * change) + kl_after(model, stage, half * opposite);
      const double error = std::abs(part / whole - 0.5);
      CHECK(error < length * length * 0.1 + 1e-4);
      CHECK(error < before);
      before = std::max(error, 1e-4);
    }
  }
}

TEST_CASE("theory 6.2: over directions drawn evenly, KL is one gain times the energy") {
  const residual_model model;
  const auto gain_of = [&](double length, std::uint64_t first_seed, double& error) {
    constexpr int draws = 40;
    double sum = 0, squares = 0;
    for (int d = 0; d < draws; ++d) {
      const double gain = kl_after(model, 5, noise(length, first_seed + static_cast<std::uint64_t>(d))) / (length * length);
      sum += gain;
      squares += gain * gain;
    }
    error = std::sqrt((squares / draws - sum * sum / draws / draws) / draws);
    return sum / draws;
  };
  double error = 0, other_error = 0;
  const double gain = gain_of(0.1, 100, error), other = gain_of(0.02, 1000, other_error);
  CHECK(error < 0.05 * gain);
  CHECK(other == near{gain, 0, 4 * std::hypot(error, other_error)});
}

TEST_CASE("theory 6.3: energies and gains are relative: a residual stream eight times as large has the same, bit for bit") {
  // The same function of the tokens, its residual stream times 8 between all stages.
  struct larger_stream : residual_model {
    float size = 8;
    void advance(state& at, std::size_t stage) const {
      at.hidden /= size;
      residual_model::advance(at, stage);
      at.hidden *= size;
    }
    [[nodiscard]] klens::matrix<float> logits(state at) const {
      at.hidden /= size;
      return residual_model::logits(at);
    }
  };
  const auto scored = [](auto model) {
    klens::rank_options options;
    options.batches = model.batches();
    options.sequence_length = model.length;
    options.method = klens::scan_method::local;
    options.local.calibrations = 6;
    std::vector<klens::layer> layers = model.layers();
    return klens::rank_layers(layers, model, {"int4-channel", "int6-channel"}, {klens::kl{}}, options);
  };
  const klens::scores plain = scored(residual_model{}), larger = scored(larger_stream{});
  std::size_t with_energy = 0;
  for (const klens::layer_score& each : plain.candidates) with_energy += each.local_energy > 0 && each.gain > 0 ? 1 : 0;
  CHECK(with_energy >= 24);  // twelve steps under two schemes
  support::check_same(plain, larger);
}
