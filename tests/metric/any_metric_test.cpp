#include <klens/metric/any_metric.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <string>

namespace {

struct largest_change {  // a user's metric: no `needs`, no `finish`
  static constexpr std::string_view name = "largest_change";
  static constexpr std::string_view unit = "logits";
  static constexpr bool higher_is_worse = true;
  double operator()(const klens::position& at) const {
    double most = 0;
    for (std::size_t v = 0; v < at.reference.size(); ++v)
      most = std::max(most, std::abs(static_cast<double>(at.observed[v]) - at.reference[v]));
    return most;
  }
};

}  // namespace

TEST_CASE("any_metric: what a policy says is what it says") {
  const klens::any_metric metric = largest_change{};
  CHECK(metric.name == "largest_change");
  CHECK(metric.unit == "logits");
  CHECK(metric.needs == klens::row_sums::none);
  CHECK(metric.finish(3) == 3);
  CHECK(!metric.has_finish());
  const float reference[] = {1, 2}, observed[] = {1.5f, 1};
  const klens::row_damage damage;
  const klens::contribution at = metric(klens::position{reference, observed, std::nullopt, damage});
  CHECK(at.value == 1);
  CHECK(at.weight == 1);
}

TEST_CASE("any_metric: the seven are found by their names, and nothing else is") {
  for (const char* name : {"kl", "reverse_kl", "js", "mse", "sqnr", "delta_ce", "top1"})
    CHECK(klens::any_metric::parse(name).name == name);
  CHECK(klens::all_metrics().size() == 7);
  CHECK_THROWS_WITH_AS((void)klens::any_metric::parse("KL"),
                       "unknown metric 'KL'; known are kl, reverse_kl, js, mse, sqnr, delta_ce, top1", klens::argument_error);
}

TEST_CASE("any_metric: the direction of the mean before and after it is finished") {
  CHECK(klens::any_metric{klens::kl{}}.higher_mean_is_worse());
  CHECK(!klens::any_metric{klens::top1{}}.higher_mean_is_worse());
  // SQNR falls with damage, but the ratio of noise to signal that it is made of rises.
  const klens::any_metric sqnr = klens::sqnr{};
  CHECK(!sqnr.higher_is_worse);
  CHECK(sqnr.higher_mean_is_worse());
  CHECK(std::abs(sqnr.finish(0.01) - 20) < 1e-12);
  CHECK(klens::any_metric{klens::kl{}}.least == 0);
  CHECK(klens::any_metric{klens::delta_ce{}}.least == -std::numeric_limits<double>::infinity());
}
