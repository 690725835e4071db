#pragma once

#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/random.hpp>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// How an effect enters an observation: which member of its group it is, and times what.
struct effect_part {
  std::size_t member = 0;
  double factor = 1;
};

/// A number that observations have in common, each times a factor of its own: a level, a slope. Its prior is normal, around 0.
struct coefficient {
  double value = 0;
  double prior_precision = 0;  ///< 0: nothing is known
  double mean = 0;             ///< over what was noted
  std::size_t noted = 0;

  void note() noexcept { mean += (value - mean) / static_cast<double>(++noted); }

  /// One step of Gibbs sampling. `left` are what the observations differ by from all effects, this one included.
  void draw(std::span<const double> factors, std::span<double> left, std::span<const double> precision, random_stream& random) {
    double weight = prior_precision, sum = -prior_precision * value;
    for (std::size_t i = 0; i < left.size(); ++i) {
      weight += factors[i] * factors[i] * precision[i];
      sum += factors[i] * precision[i] * left[i];
    }
    const double moved = sum / weight + random.normal() / std::sqrt(weight);
    value += moved;
    for (std::size_t i = 0; i < left.size(); ++i) left[i] -= factors[i] * moved;
  }
};

/// The effects of alike things (kinds, layers, ...): a spread times a unit effect for each.
///   The spread has a normal prior around 0, so it is as good as 0 where nothing speaks for more. Unit effects come from the
///   standard normal distribution, or with heavy tails from Student's t with 4 degrees of freedom as a mixture of normals: then an
///   outlier is taken for one and moves nobody else.
/// Source     A. Gelman et al., Bayesian Data Analysis (2013), sections 5.7, 12.1 (moves between level and effects) and 17.2.
class effect_group {
 public:
  /// A spread that is learned; `prior` is the standard deviation of its prior.
  [[nodiscard]] static effect_group learned(std::size_t members, double prior, bool heavy_tails = false) {
    effect_group made;
    made.units_.assign(members, 0);
    made.precisions_.assign(members, 1);
    made.sums_.assign(members, 0);
    made.is_seen_.assign(members, false);
    made.prior_ = prior;
    made.spread_ = prior / 2;
    made.heavy_ = heavy_tails;
    return made;
  }
  /// A spread that is known.
  [[nodiscard]] static effect_group known(std::size_t members, double spread) {
    effect_group made = learned(members, 0);
    made.spread_ = spread;
    return made;
  }

  [[nodiscard]] double of(const effect_part& part) const noexcept { return spread_ * units_[part.member] * part.factor; }
  /// The mean over what was noted.
  [[nodiscard]] double mean_of(const effect_part& part) const noexcept {
    return sums_[part.member] / static_cast<double>(noted_) * part.factor;
  }

  /// Takes the current effects into their means. One that no observation has a part in is as good as its prior, around 0: what was
  /// drawn for it is left out.
  void note() {
    for (std::size_t m = 0; m < units_.size(); ++m)
      if (is_seen_[m]) sums_[m] += spread_ * units_[m];
    ++noted_;
  }

  /// One sweep of Gibbs sampling: the effects given the spread, then the spread given the effects, then what all members share.
  /// `left` are what the observations differ by from all effects, `parts` how these enter them.
  void draw(std::span<const effect_part> parts, std::span<double> left, std::span<const double> precision, coefficient& shared,
            random_stream& random) {
    for (std::size_t i = 0; i < parts.size(); ++i) left[i] += of(parts[i]);
    draw_units(parts, left, precision, random);
    if (prior_ > 0) draw_spread(parts, left, precision, random);
    for (std::size_t i = 0; i < parts.size(); ++i) left[i] -= of(parts[i]);
    move_to(shared, random);
  }

 private:
  void draw_units(std::span<const effect_part> parts, std::span<const double> left, std::span<const double> precision,
                  random_stream& random) {
    std::vector<double> weights(units_.size(), 0), sums(units_.size(), 0);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const double factor = spread_ * parts[i].factor;
      weights[parts[i].member] += factor * factor * precision[i];
      sums[parts[i].member] += factor * precision[i] * left[i];
    }
    for (std::size_t m = 0; m < units_.size(); ++m) {
      is_seen_[m] = weights[m] > 0;
      if (heavy_) precisions_[m] = weights[m] > 0 ? draw_precision(5, units_[m], random) : draw_precision(4, 0, random);
      const double weight = precisions_[m] + weights[m];
      units_[m] = sums[m] / weight + random.normal() / std::sqrt(weight);
    }
  }

  void draw_spread(std::span<const effect_part> parts, std::span<const double> left, std::span<const double> precision,
                   random_stream& random) {
    double weight = 1 / (prior_ * prior_), sum = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const double unit = parts[i].factor * units_[parts[i].member];
      weight += unit * unit * precision[i];
      sum += unit * precision[i] * left[i];
    }
    spread_ = sum / weight + random.normal() / std::sqrt(weight);
  }

  /// What all members share moves to the coefficient or back; observations do not notice, so it is drawn from the priors alone.
  /// Without this, two things of which only the sum is seen would creep past each other for hundreds of sweeps.
  void move_to(coefficient& shared, random_stream& random) {
    double weight = shared.prior_precision, sum = -shared.prior_precision * shared.value;
    for (std::size_t m = 0; m < units_.size(); ++m) {
      weight += precisions_[m] / (spread_ * spread_);
      sum += precisions_[m] * units_[m] / spread_;
    }
    const double moved = sum / weight + random.normal() / std::sqrt(weight);
    if (!is_finite(moved)) return;  // a spread of 0: nothing is shared
    shared.value += moved;
    for (double& unit : units_) unit -= moved / spread_;
  }

  /// Of the normal distribution behind a t-distributed effect: chi-squared over what it is scaled by.
  [[nodiscard]] static double draw_precision(int dof, double unit, random_stream& random) {
    double squares = 0;
    for (int i = 0; i < dof; ++i) squares += std::pow(random.normal(), 2);
    return squares / (4 + unit * unit);
  }

  std::vector<double> units_;
  std::vector<double> precisions_;  // of the unit effects' prior
  std::vector<double> sums_;        // of the effects that were noted
  std::vector<bool> is_seen_;       // in observations
  std::size_t noted_ = 0;
  double prior_ = 0;
  double spread_ = 0;
  bool heavy_ = false;
};

}  // namespace klens::detail
