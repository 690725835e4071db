#include "explanatory_metrics.hpp"

#include <Eigen/Core>
#include <klens/metric/rows.hpp>
#include <limits>
#include <span>

namespace programs {
namespace {

// Rows are floats, so that exponentials are taken many at a time; sums are doubles. No sum here cancels.
using logits_row = Eigen::ArrayXf;
using row_view = Eigen::Map<const Eigen::ArrayXf>;

row_view view(std::span<const float> logits) { return {logits.data(), static_cast<Eigen::Index>(logits.size())}; }

logits_row softmax(std::span<const float> logits) {
  const logits_row exponentials = (view(logits) - view(logits).maxCoeff()).exp();
  return exponentials / static_cast<float>(exponentials.cast<double>().sum());
}
/// What is added to each logit; 0 where both are masked.
logits_row change_of(const klens::position& at) {
  const row_view x = view(at.reference), y = view(at.observed);
  return (x == y).select(0, y - x);
}
template <class Terms>
double sum_of(const Terms& terms) {
  return terms.template cast<double>().sum();
}

struct worse_if_higher {
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr klens::damage_scale damage = klens::damage_scale::mean;
};

double kl_at(float temperature, const klens::position& at) {
  const logits_row x = view(at.reference) / temperature, y = view(at.observed) / temperature;
  return klens::kl_divergence({x.data(), at.reference.size()}, {y.data(), at.observed.size()});
}
struct kl_sharper : worse_if_higher {
  static constexpr std::string_view name = "kl_t0.5", unit = "nats/token";
  double operator()(const klens::position& at) const { return kl_at(0.5F, at); }
};
struct kl_flatter : worse_if_higher {
  static constexpr std::string_view name = "kl_t2", unit = "nats/token";
  double operator()(const klens::position& at) const { return kl_at(2, at); }
};
struct variance_under_p : worse_if_higher {
  static constexpr std::string_view name = "var_p", unit = "squared logits";
  double operator()(const klens::position& at) const {
    const logits_row p = softmax(at.reference), change = (p > 0).select(change_of(at), 0);
    if (!change.isFinite().all()) return std::numeric_limits<double>::infinity();  // what P may choose is masked
    const auto mean = static_cast<float>(sum_of(p * change));
    return sum_of(p * (change - mean).square());
  }
};
struct mse_centred : worse_if_higher {
  static constexpr std::string_view name = "mse_centred", unit = "squared logits";
  double operator()(const klens::position& at) const {
    const logits_row change = change_of(at);
    if (!change.isFinite().all()) return std::numeric_limits<double>::infinity();
    const auto count = static_cast<double>(change.size());
    const auto mean = static_cast<float>(sum_of(change) / count);
    return sum_of((change - mean).square()) / count;
  }
};
struct mse_likely : worse_if_higher {
  static constexpr std::string_view name = "mse_likely", unit = "squared logits";
  static constexpr float likely = 1e-4F;
  double operator()(const klens::position& at) const {
    const auto counts = (softmax(at.reference) >= likely).eval();
    return sum_of(counts.select(change_of(at), 0).square()) / static_cast<double>(counts.count());
  }
};
struct mse_of_probabilities : worse_if_higher {
  static constexpr std::string_view name = "mse_p", unit = "squared probability";
  double operator()(const klens::position& at) const { return sum_of((softmax(at.observed) - softmax(at.reference)).square()); }
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
