// docs/theory.md, section 6: local damage times gain.
#include <klens/metric/metrics.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <klens/detail/random.hpp>
#include <klens/metric/compare_rows.hpp>
#include <support/near.hpp>
#include <support/residual_model.hpp>
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

TEST_CASE("theory 6.3: a residual stream and a change twice as large lose nearly the same, once a norm comes first") {
  // With the head behind a norm and nothing in between but it: the logits depend on the direction alone.
  const residual_model model;
  residual_model::state at = model.begin(0);
  for (std::size_t s = 0; s < model.stages(); ++s) model.advance(at, s);
  const auto kl_behind_norm = [&](float size) {
    const klens::matrix<float> change = noise(0.3, 9);
    double total = 0;
    for (Eigen::Index t = 0; t < at.hidden.rows(); ++t) {
      const Eigen::RowVectorXf h = size * at.hidden.row(t), moved = h + size * change.row(t);
      klens::matrix<float> reference = h / h.norm() * model.head.transpose(),
                           observed = moved / moved.norm() * model.head.transpose();
      const auto row = klens::row(reference, 0);
      total += klens::compare_rows(row, klens::row(observed, 0), klens::describe_reference(row), klens::row_sums::kl).kl;
    }
    return total;
  };
  CHECK(kl_behind_norm(8) == near{kl_behind_norm(1), 1e-4});
}
