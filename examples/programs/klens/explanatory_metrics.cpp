#include "explanatory_metrics.hpp"

#include <Eigen/Core>
#include <cmath>
#include <span>

namespace programs {
namespace {

using logits_row = Eigen::ArrayXd;

logits_row as_doubles(std::span<const float> logits) {
  return Eigen::Map<const Eigen::ArrayXf>(logits.data(), static_cast<Eigen::Index>(logits.size())).cast<double>();
}
logits_row log_softmax(const logits_row& logits) {
  const double most = logits.maxCoeff();
  return logits - (most + std::log((logits - most).exp().sum()));
}
/// Of the sum over tokens of positive probability: a masked one has no change.
double sum_over(const logits_row& probability, const logits_row& values) {
  return (probability > 0).select(probability * values, 0).sum();
}

struct worse_if_higher {
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr klens::damage_scale damage = klens::damage_scale::mean;
};

double kl_at(double temperature, const klens::position& at) {
  const logits_row p = log_softmax(as_doubles(at.reference) / temperature),
                   q = log_softmax(as_doubles(at.observed) / temperature);
  return sum_over(p.exp(), p - q);
}
struct kl_sharper : worse_if_higher {
  static constexpr std::string_view name = "kl_t0.5", unit = "nats/token";
  double operator()(const klens::position& at) const { return kl_at(0.5, at); }
};
struct kl_flatter : worse_if_higher {
  static constexpr std::string_view name = "kl_t2", unit = "nats/token";
  double operator()(const klens::position& at) const { return kl_at(2, at); }
};
struct variance_under_p : worse_if_higher {
  static constexpr std::string_view name = "var_p", unit = "squared logits";
  double operator()(const klens::position& at) const {
    const logits_row x = as_doubles(at.reference), p = log_softmax(x).exp(), change = as_doubles(at.observed) - x;
    return sum_over(p, (change - sum_over(p, change)).square());
  }
};
struct mse_centred : worse_if_higher {
  static constexpr std::string_view name = "mse_centred", unit = "squared logits";
  double operator()(const klens::position& at) const {
    const logits_row change = as_doubles(at.observed) - as_doubles(at.reference);
    return (change - change.mean()).square().mean();
  }
};
struct mse_likely : worse_if_higher {
  static constexpr std::string_view name = "mse_likely", unit = "squared logits";
  static constexpr double likely = 1e-4;
  double operator()(const klens::position& at) const {
    const logits_row x = as_doubles(at.reference), p = log_softmax(x).exp();
    const logits_row counts = (p >= likely).cast<double>();
    return sum_over(counts, (as_doubles(at.observed) - x).square()) / counts.sum();
  }
};
struct mse_of_probabilities : worse_if_higher {
  static constexpr std::string_view name = "mse_p", unit = "squared probability";
  double operator()(const klens::position& at) const {
    return (log_softmax(as_doubles(at.observed)).exp() - log_softmax(as_doubles(at.reference)).exp()).square().sum();
  }
};

}  // namespace

std::vector<klens::any_metric> explanatory_metrics() {
  return {kl_sharper{}, kl_flatter{}, variance_under_p{}, mse_centred{}, mse_likely{}, mse_of_probabilities{}};
}

klens::any_metric metric_of_study(const std::string& name) {
  for (const klens::any_metric& each : explanatory_metrics())
    if (each.name == name) return each;
  return klens::any_metric::parse(name);
}

}  // namespace programs
