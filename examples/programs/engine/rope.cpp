#include "rope.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <klens/error.hpp>
#include <numbers>
#include "engine/elementwise.hpp"

namespace programs {
namespace {

float rounded(double x) { return static_cast<float>(x); }

double positive(const config& fields, std::string_view field, double fallback) {
  const double value = fields.number(field, fallback);
  if (!(value > 0 && std::isfinite(value))) fields.refuse(field, "is missing or not a positive number");
  return value;
}

/// The older name wins where both are there, and an empty object is none.
config scaling_of(const config& fields) {
  const bool older = fields.has("rope_scaling") && !fields.is_empty("rope_scaling");
  const bool given = older || (fields.has("rope_parameters") && !fields.is_empty("rope_parameters"));
  return given ? fields.object(older ? "rope_scaling" : "rope_parameters") : fields.empty_object("rope_parameters");
}

}  // namespace

rope::rope(const config& fields, std::size_t head_width, double rotated, bool partial, double theta)
    : rope(scaling_of(fields), head_width,
           {.theta = positive(fields, "rope_theta", theta),
            .rotated = fields.number("partial_rotary_factor", rotated),
            .context = static_cast<double>(fields.count("max_position_embeddings", 2048)),
            .trained = fields.number("original_max_position_embeddings", 0),
            .partial = partial}) {}

rope::rope(const config& scaling, std::size_t head_width, const defaults& otherwise)
    : head_width_(head_width), context_(otherwise.context) {
  type_ = scaling.text("rope_type", scaling.text("type", "default"));
  theta_ = positive(scaling, "rope_theta", otherwise.theta);
  const double turned_share = scaling.number("partial_rotary_factor", otherwise.rotated);
  if (!(turned_share > 0 && turned_share <= 1)) scaling.refuse("partial_rotary_factor", "is not above 0 and at most 1");
  if (!otherwise.partial && turned_share != 1)
    scaling.refuse("partial_rotary_factor", "is not 1, which this model type does not carry out");
  turned_ = static_cast<std::size_t>(static_cast<double>(head_width) * turned_share);
  half_ = (turned_ + 1) / 2;
  if (turned_ == 0 || 2 * half_ > head_width)
    scaling.refuse("partial_rotary_factor", "leaves no pairs, or half a pair, in a head");

  trained_context_ =
      otherwise.trained > 0 ? otherwise.trained : positive(scaling, "original_max_position_embeddings", context_);
  if (type_ == "default") {
    scaling.ignore({"factor"});
  } else if (type_ == "linear") {
    factor_ = positive(scaling, "factor", 0);
  } else if (type_ == "dynamic") {
    factor_ = positive(scaling, "factor", 0);
    if (turned_ <= 2) scaling.refuse("rope_type", "is 'dynamic', which needs heads wider than 2");
  } else if (type_ == "llama3") {
    factor_ = positive(scaling, "factor", 0);
    low_ = positive(scaling, "low_freq_factor", 0);
    high_ = positive(scaling, "high_freq_factor", 0);
    if (low_ == high_) scaling.refuse("high_freq_factor", "equals low_freq_factor");
  } else if (type_ == "longrope") {
    short_factors_ = scaling.numbers("short_factor", {});
    long_factors_ = scaling.numbers("long_factor", {});
    if (short_factors_.size() != half_) scaling.refuse("short_factor", "has not one number for each pair of a head");
    if (long_factors_.size() != half_) scaling.refuse("long_factor", "has not one number for each pair of a head");
    const double factor = positive(scaling, "factor", context_ / trained_context_);
    amplitude_ =
        positive(scaling, "attention_factor", factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(trained_context_)));
  } else if (type_ == "yarn") {
    read_yarn(scaling, context_ / trained_context_);
  } else {
    scaling.refuse("rope_type", "is " + klens::detail::name_text(type_) +
                                    "; klens carries out default, linear, dynamic, yarn, longrope and llama3");
  }
  scaling.settle_rest();
}

// Peng et al., arXiv:2309.00071: pairs that turn often within the trained context keep their frequency, pairs that turn seldom
// get 1/factor of it, with a ramp in between.
void rope::read_yarn(const config& fields, double fallback_factor) {
  factor_ = positive(fields, "factor", fallback_factor);
  const auto gain = [this](double weight) { return factor_ <= 1 ? 1.0 : 0.1 * weight * std::log(factor_) + 1; };
  const double all = fields.number("mscale_all_dim", 0), one = fields.number("mscale", 0);
  amplitude_ = positive(fields, "attention_factor", one != 0 && all != 0 ? gain(one) / gain(all) : gain(1));
  const auto pair_that_turns = [this](double times) {
    return static_cast<double>(turned_) * std::log(trained_context_ / (times * 2 * std::numbers::pi)) / (2 * std::log(theta_));
  };
  const auto or_default = [](double value, double fallback) { return value == 0 ? fallback : value; };
  low_ = pair_that_turns(or_default(fields.number("beta_fast", 32), 32));
  high_ = pair_that_turns(or_default(fields.number("beta_slow", 1), 1));
  if (fields.flag("truncate", true)) {
    low_ = std::floor(low_);
    high_ = std::ceil(high_);
  }
  low_ = std::max(low_, 0.0);
  high_ = std::min(high_, static_cast<double>(turned_ - 1));
  if (low_ == high_) high_ += 0.001;
}

std::vector<float> rope::frequencies(std::size_t length) const {
  double theta = theta_;
  if (type_ == "dynamic") {
    const double stretch = factor_ * std::max(static_cast<double>(length), context_) / context_ - (factor_ - 1);
    theta *= std::pow(stretch, static_cast<double>(turned_) / static_cast<double>(turned_ - 2));
  }
  const std::vector<double>& factors = static_cast<double>(length) > trained_context_ ? long_factors_ : short_factors_;
  std::vector<float> all(half_);
  for (std::size_t i = 0; i < half_; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(turned_);
    const float period = std::pow(rounded(theta), exponent);
    float frequency = 1 / period;
    if (type_ == "linear") frequency /= rounded(factor_);
    if (type_ == "longrope") frequency = 1 / (rounded(factors[i]) * period);
    if (type_ == "llama3") {
      const double wave = 2 * std::numbers::pi / static_cast<double>(frequency);
      if (wave > trained_context_ / low_) {
        frequency /= rounded(factor_);
      } else if (wave >= trained_context_ / high_) {
        const double smooth = (trained_context_ / wave - low_) / (high_ - low_);
        frequency = rounded((1 - smooth) * static_cast<double>(frequency) / factor_ + smooth * static_cast<double>(frequency));
      }
    }
    if (type_ == "yarn") {
      const double kept = 1 - std::clamp((static_cast<double>(i) - low_) / (high_ - low_), 0.0, 1.0);
      frequency = rounded((1 - kept) / (factor_ * static_cast<double>(period)) + kept * static_cast<double>(frequency));
    }
    all[i] = frequency;
  }
  return all;
}

std::shared_ptr<const rope::table> rope::angles(std::size_t length) const {
  const std::lock_guard lock{cache_->guard};
  const bool fixed = type_ != "dynamic" && type_ != "longrope";  // frequencies do not depend on the length
  if (cache_->last) {
    const auto have = static_cast<std::size_t>(cache_->last->cosines.rows());
    if (have == length || (fixed && have > length)) return cache_->last;
    if (fixed && length == have + 1) length = 2 * have;  // a sequence that grows token by token
  }
  const auto rows = static_cast<Eigen::Index>(length), pairs = static_cast<Eigen::Index>(half_);
  auto made = std::make_shared<table>(table{{rows, pairs}, {rows, pairs}});
  const std::vector<float> turns = frequencies(length);
  for (Eigen::Index t = 0; t < rows; ++t)
    for (Eigen::Index i = 0; i < pairs; ++i) {
      const float angle = static_cast<float>(t) * turns[static_cast<std::size_t>(i)];
      made->cosines(t, i) = rounded(std::cos(static_cast<double>(angle)) * amplitude_);
      made->sines(t, i) = rounded(std::sin(static_cast<double>(angle)) * amplitude_);
    }
  cache_->last = std::move(made);
  return cache_->last;
}

void rope::apply(klens::matrix_ref<float> x, std::size_t first) const {
  const std::shared_ptr<const table> turn = angles(first + static_cast<std::size_t>(x.rows()));
  for (Eigen::Index t = 0; t < x.rows(); ++t) {
    const std::span<float> all = klens::row(x, t);
    const auto place = static_cast<Eigen::Index>(first) + t;
    const float *const cosines = turn->cosines.row(place).data(), *const sines = turn->sines.row(place).data();
    for (std::size_t head = 0; head < all.size(); head += head_width_)
      for (std::size_t i = 0; i < half_; ++i) {
        const float a = all[head + i], b = all[head + half_ + i];
        all[head + i] = a * cosines[i] - b * sines[i];
        all[head + half_ + i] = b * cosines[i] + a * sines[i];
      }
  }
}

}  // namespace programs
