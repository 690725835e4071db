#include <klens/metric/metrics.hpp>

#include <doctest/doctest.h>

#include <klens/metric/measure.hpp>
#include <limits>
#include <string_view>
#include <support/near.hpp>
#include <vector>

// Units and directions are part of the interface: other programs read them.
static_assert(klens::kl::unit == std::string_view{"nats/token"} && klens::kl::higher_is_worse);
static_assert(klens::reverse_kl::unit == std::string_view{"nats/token"} && klens::reverse_kl::higher_is_worse);
static_assert(klens::js::unit == std::string_view{"nats/token"} && klens::js::higher_is_worse);
static_assert(klens::mse::unit == std::string_view{"squared logits"} && klens::mse::higher_is_worse);
static_assert(klens::sqnr::unit == std::string_view{"dB"} && !klens::sqnr::higher_is_worse);
static_assert(klens::delta_ce::unit == std::string_view{"nats/token"} && klens::delta_ce::higher_is_worse);
static_assert(klens::top1::unit == std::string_view{"share"} && !klens::top1::higher_is_worse);

namespace {

struct may_not_return_a_number {
  static constexpr std::string_view name = "x", unit = "y";
  static constexpr bool higher_is_worse = true;
  void operator()(const klens::position&) const;
};
static_assert(!klens::metric<may_not_return_a_number>);

constexpr float infinity = std::numeric_limits<float>::infinity();

template <klens::metric Metric>
double mean(const Metric& metric, const klens::matrix<float>& reference, const klens::matrix<float>& observed,
            const std::vector<std::int32_t>& next = {}) {
  return std::get<0>(klens::measure(reference, observed, {.next_tokens = next}, metric)).mean();
}

}  // namespace

// Three positions of two tokens: P = (1/2, 1/2) everywhere, Q = (1/2, 1/2), (1/5, 4/5), (4/5, 1/5).
TEST_CASE("every metric by hand") {
  const float ln4 = 1.38629436f;
  klens::matrix<float> x(3, 2), y(3, 2);
  x << 0, 0, 0, 0, 1, 1;
  y << 0, 0, 0, ln4, 1, 1 - ln4;
  CHECK(mean(klens::kl{}, x, y) == near{2 * 0.223143551314210 / 3, 1e-6});          // 1/2 ln(5/2) + 1/2 ln(5/8)
  CHECK(mean(klens::reverse_kl{}, x, y) == near{2 * 0.192744757021758 / 3, 1e-6});  // 1/5 ln(2/5) + 4/5 ln(8/5)
  CHECK(mean(klens::js{}, x, y) == near{2 * 0.050671836985567 / 3, 1e-6});          // with M = (7/20, 13/20)
  CHECK(mean(klens::mse{}, x, y) == near{2 * 1.921812055672805 / 6, 1e-6});         // ln(4)^2
  CHECK(mean(klens::sqnr{}, x, y) == near{-2.837110783466, 0, 1e-5});               // 10 log10(2 / (2 ln(4)^2))
  CHECK(mean(klens::top1{}, x, y) == near{2.0 / 3, 1e-15});
  CHECK(mean(klens::delta_ce{}, x, y, {1, 1, -1}) == near{-0.235001814623, 1e-6});  // (0 - ln(8/5)) / 2
  CHECK(mean(klens::delta_ce{}, x, y, {0, 0, 0}) == near{(0.916290731874 - 0.470003629246) / 3, 1e-6});
}

TEST_CASE("no damage has the limit of each unit") {
  const klens::matrix<float> x = klens::matrix<float>::Random(2, 5);
  CHECK(mean(klens::kl{}, x, x) == 0);
  CHECK(mean(klens::sqnr{}, x, x) == std::numeric_limits<double>::infinity());
  CHECK(mean(klens::top1{}, x, x) == 1);
  CHECK(mean(klens::delta_ce{}, x, x, {0, 4}) == 0);
}

TEST_CASE("sqnr divides the sums over all positions, not position by position") {
  klens::matrix<float> x(2, 1), y(2, 1);
  x << 10, 1;
  y << 11, 2;
  CHECK(mean(klens::sqnr{}, x, y) == near{17.032913781186615, 1e-9});  // 10 log10(101 / 2)
}

TEST_CASE("delta_ce is the difference of two cross-entropies, masked or not") {
  klens::matrix<float> x(1, 3), y(1, 3);
  x << 0, 1, -infinity;
  y << 0.5f, -1, -infinity;
  CHECK(mean(klens::delta_ce{}, x, y, {0}) == near{-1.111848308, 1e-6});  // ln(1+e^-1.5) - ln(1+e)
  CHECK(mean(klens::delta_ce{}, x, y, {2}) == 0);
  y(0, 1) = -infinity;
  CHECK(mean(klens::delta_ce{}, x, y, {1}) == infinity);
  CHECK(mean(klens::delta_ce{}, y, x, {1}) == -infinity);
}

TEST_CASE("without a next token delta_ce has nothing to say") {
  const klens::matrix<float> x = klens::matrix<float>::Random(2, 5);
  const auto [nothing] = klens::measure(x, x, klens::delta_ce{});
  CHECK(nothing.positions() == 0);
  CHECK(nothing.mean() != nothing.mean());
}
