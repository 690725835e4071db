#pragma once

#include <concepts>
#include <functional>
#include <klens/error.hpp>
#include <klens/metric/metric.hpp>
#include <klens/metric/metrics.hpp>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Any metric, klens' own or the user's, behind one type, so that a scan can take a list of them that is known at run time
/// only.
class any_metric {
 public:
  std::string name;
  std::string unit;
  bool higher_is_worse = true;
  row_sums needs = row_sums::none;
  double least = -std::numeric_limits<double>::infinity();
  damage_scale damage = damage_scale::unknown;

  template <class Metric>
    requires(!std::same_as<Metric, any_metric> &&
             metric<Metric>)  // in this order: the latter alone would ask for this constructor
  any_metric(Metric policy)   // NOLINT: a list of policies is a list of metrics
      : name{Metric::name},
        unit{Metric::unit},
        higher_is_worse{Metric::higher_is_worse},
        measure_{[policy](const position& at) { return contribution{policy(at)}; }} {
    if constexpr (requires { Metric::needs; }) {
      static_assert(std::is_convertible_v<decltype(Metric::needs), row_sums>,
                    "klens: a metric's needs must be: static constexpr klens::row_sums needs = ...");
      needs = Metric::needs;
    }
    if constexpr (requires { Metric::least; }) {
      static_assert(std::is_convertible_v<decltype(Metric::least), double>,
                    "klens: a metric's least must be: static constexpr double least = ...");
      least = Metric::least;
    }
    if constexpr (requires { Metric::damage; }) {
      static_assert(std::is_convertible_v<decltype(Metric::damage), damage_scale>,
                    "klens: a metric's damage must be: static constexpr klens::damage_scale damage = ...");
      damage = Metric::damage;
    }
    if constexpr (requires { &Metric::finish; })
      static_assert(
          requires(double mean) {
            { policy.finish(mean) } -> std::convertible_to<double>;
          },
          "klens: a metric's finish must be: double finish(double mean) const");
    if constexpr (requires(double mean) { policy.finish(mean); })
      finish_ = [policy](double mean) { return policy.finish(mean); };
  }

  /// One of klens' own metrics by name: "kl", "reverse_kl", "js", "mse", "sqnr", "delta_ce", "top1". Throws argument_error.
  [[nodiscard]] static any_metric parse(std::string_view text);

  [[nodiscard]] contribution operator()(const position& at) const { return measure_(at); }

  /// From sum of values / sum of weights to what is reported.
  [[nodiscard]] double finish(double mean) const { return finish_ ? finish_(mean) : mean; }
  [[nodiscard]] bool has_finish() const noexcept { return finish_ != nullptr; }

  /// The direction of the mean itself, before finish().
  [[nodiscard]] bool higher_mean_is_worse() const { return higher_is_worse == (finish(2) > finish(1)); }

 private:
  std::function<contribution(const position&)> measure_;
  std::function<double(double)> finish_;
};

/// Every metric that klens has, in the order in which they are shown.
[[nodiscard]] inline std::vector<any_metric> all_metrics() {
  return {kl{}, reverse_kl{}, js{}, mse{}, sqnr{}, delta_ce{}, top1{}};
}

inline any_metric any_metric::parse(std::string_view text) {
  std::string known;
  for (any_metric& each : all_metrics()) {
    if (each.name == text) return std::move(each);
    known += (known.empty() ? "" : ", ") + each.name;
  }
  detail::refuse<argument_error>({"unknown metric ", detail::name_text(text), "; known are ", known});
}

}  // namespace klens
