#include <klens/metric/measure.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <klens/metric/metrics.hpp>
#include <limits>
#include <string>
#include <string_view>
#include <support/near.hpp>
#include <support/reference_metrics.hpp>
#include <vector>

namespace {

using logits = klens::matrix<float>;

logits random_logits(Eigen::Index rows, Eigen::Index columns, unsigned seed) {
  std::srand(seed);
  return 4 * logits::Random(rows, columns);
}

std::vector<float> values(const logits& from, Eigen::Index t) {
  const auto all = klens::row(from, t);
  return {all.begin(), all.end()};
}

/// A metric of a user: the largest change of a logit.
struct largest_change {
  static constexpr std::string_view name = "largest_change";
  static constexpr std::string_view unit = "logits";
  static constexpr bool higher_is_worse = true;
  double scale = 1;

  double operator()(const klens::position& at) const {
    float largest = 0;
    for (std::size_t v = 0; v < at.reference.size(); ++v)
      largest = std::max(largest, std::abs(at.observed[v] - at.reference[v]));
    return scale * static_cast<double>(largest);
  }
};

/// Remembers where the rows lie that it is shown.
struct addresses {
  static constexpr std::string_view name = "addresses";
  static constexpr std::string_view unit = "none";
  static constexpr bool higher_is_worse = true;
  std::vector<const float*>* seen;

  double operator()(const klens::position& at) const {
    seen->insert(seen->end(), {at.reference.data(), at.observed.data()});
    return 0;
  }
};

template <class A, class B>
void expect_same(const A& a, const B& b) {
  const auto same = [](const auto& x, const auto& y) {
    CHECK(x.mean() == y.mean());
    CHECK(x.positions() == y.positions());
    CHECK(x.worst() == y.worst());
    CHECK(x.worst_position() == y.worst_position());
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) { (same(std::get<I>(a), std::get<I>(b)), ...); }
  (std::make_index_sequence<std::tuple_size_v<A>>{});
}

std::string message(const auto& call) {
  try {
    call();
  } catch (const klens::error& caught) {
    return caught.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("all metrics in one call are the textbook's") {
  const logits x = random_logits(37, 101, 1), y = x + 0.1f * random_logits(37, 101, 2);
  std::vector<std::int32_t> next(37, -1);
  for (std::size_t t = 0; t + 1 < next.size(); ++t) next[t] = static_cast<std::int32_t>(t * 13 % 101);
  const auto [kl, reverse, js, mse, sqnr, delta, top, user] =
      klens::measure(x, y, {.next_tokens = next}, klens::kl{}, klens::reverse_kl{}, klens::js{}, klens::mse{}, klens::sqnr{},
                     klens::delta_ce{}, klens::top1{}, largest_change{.scale = 10});
  reference_metrics sum;
  long double delta_sum = 0, same = 0, largest = 0;
  for (Eigen::Index t = 0; t < 37; ++t) {
    const reference_metrics at = textbook(values(x, t), values(y, t));
    sum.kl += at.kl;
    sum.reverse_kl += at.reverse_kl;
    sum.js += at.js;
    sum.squared_error += at.squared_error;
    sum.energy += at.energy;
    same += at.same_top ? 1 : 0;
    largest += (y.row(t) - x.row(t)).cwiseAbs().maxCoeff();
    if (const auto token = next[static_cast<std::size_t>(t)]; token >= 0)
      delta_sum += at.log_partition_change - (static_cast<long double>(y(t, token)) - static_cast<long double>(x(t, token)));
  }
  CHECK(kl.mean() == near{sum.kl / 37, 1e-6});
  CHECK(reverse.mean() == near{sum.reverse_kl / 37, 1e-6});
  CHECK(js.mean() == near{sum.js / 37, 1e-6});
  CHECK(mse.mean() == near{sum.squared_error / (37 * 101), 1e-6});
  CHECK(sqnr.mean() == near{10 * std::log10(sum.energy / sum.squared_error), 1e-6});
  CHECK(top.mean() == near{same / 37, 1e-15});
  CHECK(delta.mean() == near{delta_sum / 36, 0, 1e-6});
  CHECK(user.mean() == near{10 * largest / 37, 1e-6});
  CHECK(kl.positions() == 37);
  CHECK(delta.positions() == 36);
}

TEST_CASE("threads and parts do not change a bit") {
  const logits x = random_logits(100, 333, 3), y = x + 0.05f * random_logits(100, 333, 4);
  const std::vector<std::int32_t> next(100, 7);
  const auto whole = klens::measure(x, y, {.next_tokens = next}, klens::kl{}, klens::sqnr{}, klens::delta_ce{});
  for (const std::size_t threads : {0, 2, 3, 8}) {
    CAPTURE(threads);
    expect_same(klens::measure(x, y, {.next_tokens = next, .threads = threads}, klens::kl{}, klens::sqnr{}, klens::delta_ce{}),
                whole);
  }
  for (const Eigen::Index cut : {1, 16, 50, 99}) {
    const auto first = std::span(next).first(static_cast<std::size_t>(cut));
    const auto second = std::span(next).subspan(static_cast<std::size_t>(cut));
    auto merged =
        klens::measure(x.topRows(cut), y.topRows(cut), {.next_tokens = first}, klens::kl{}, klens::sqnr{}, klens::delta_ce{});
    const auto rest = klens::measure(x.bottomRows(100 - cut), y.bottomRows(100 - cut),
                                     {.next_tokens = second, .first_position = static_cast<std::size_t>(cut)}, klens::kl{},
                                     klens::sqnr{}, klens::delta_ce{});
    std::get<0>(merged).merge(std::get<0>(rest));
    std::get<1>(merged).merge(std::get<1>(rest));
    std::get<2>(merged).merge(std::get<2>(rest));
    expect_same(merged, whole);
  }
}

TEST_CASE("rows of a wider matrix, without a copy of it") {
  const logits padded_x = random_logits(5, 128, 5), padded_y = random_logits(5, 160, 6);
  const logits x = padded_x.leftCols(97), y = padded_y.leftCols(97);
  expect_same(klens::measure(padded_x.leftCols(97), padded_y.leftCols(97), klens::kl{}, klens::js{}),
              klens::measure(x, y, klens::kl{}, klens::js{}));
  std::vector<const float*> seen;
  (void)klens::measure(padded_x.leftCols(97), padded_y.leftCols(97), addresses{&seen});
  REQUIRE(seen.size() == 10);
  for (std::size_t t = 0; t < 5; ++t) {
    CHECK(seen[2 * t] == padded_x.data() + t * 128);
    CHECK(seen[2 * t + 1] == padded_y.data() + t * 160);
  }
}

TEST_CASE("half and bfloat16 are the floats that they stand for") {
  const logits x = random_logits(20, 75, 7), y = random_logits(20, 75, 8);
  const klens::matrix<klens::half> x16 = x.cast<klens::half>(), y16 = y.cast<klens::half>();
  const klens::matrix<klens::bfloat16> xb = x.cast<klens::bfloat16>(), yb = y.cast<klens::bfloat16>();
  const logits x_from_16 = x16.cast<float>(), y_from_16 = y16.cast<float>(), x_from_b = xb.cast<float>(),
               y_from_b = yb.cast<float>();
  expect_same(klens::measure(x16, y16, klens::kl{}, klens::mse{}),
              klens::measure(x_from_16, y_from_16, klens::kl{}, klens::mse{}));
  expect_same(klens::measure(xb, yb, klens::kl{}, klens::mse{}), klens::measure(x_from_b, y_from_b, klens::kl{}, klens::mse{}));
  expect_same(klens::measure(x, yb, klens::kl{}), klens::measure(x, y_from_b, klens::kl{}));
  std::vector<const float*> seen;
  (void)klens::measure(x16.topRows(16), yb.topRows(16), addresses{&seen});
  for (std::size_t t = 1; t < 16; ++t) {  // one row's room serves all
    CHECK(seen[2 * t] == seen[0]);
    CHECK(seen[2 * t + 1] == seen[1]);
  }
}

TEST_CASE("what is wrong is said at the door") {
  const logits x = random_logits(4, 8, 9);
  const auto with = [&](const logits& y, std::vector<std::int32_t> next = {}) {
    return message([&] { (void)klens::measure(x, y, {.next_tokens = next}, klens::kl{}, klens::mse{}); });
  };
  CHECK(with(random_logits(4, 9, 1)) == "kl, mse: reference is 4x8, observed is 4x9");
  CHECK(with(random_logits(3, 8, 1)) == "kl, mse: reference is 4x8, observed is 3x8");
  CHECK(with(x, {1, 2, 3}) == "kl, mse: logits are 4x8, next_tokens has 3 entries; give one for each row");
  CHECK(with(x, {1, 2, 8, -1}) == "kl, mse: next token 8 at row 2 is outside the vocabulary of 8");
  CHECK(with(x, {1, -2, 7, -1}) == "kl, mse: next token -2 at row 1 is outside the vocabulary of 8");
  CHECK(message([&] { (void)klens::measure(logits(0, 8), logits(0, 8), klens::kl{}); }) ==
        "kl: logits are 0x8; give at least 1x1");
  CHECK(message([&] { (void)klens::measure(logits(4, 0), logits(4, 0), klens::kl{}); }) ==
        "kl: logits are 4x0; give at least 1x1");
  logits bad = x;
  bad(2, 5) = std::numeric_limits<float>::quiet_NaN();
  CHECK(with(bad) == "position 2: observed logit 5 of 8 is NaN; logits must be finite, or -inf where masked");
  CHECK(message([&] { (void)klens::measure(bad, x, {.first_position = 40}, klens::top1{}); }) ==
        "position 42: reference logit 5 of 8 is NaN; logits must be finite, or -inf where masked");
  bad = x;
  bad.row(3).setConstant(-std::numeric_limits<float>::infinity());
  CHECK(with(bad) == "position 3: every observed logit is -inf; leave at least one token unmasked");
  bad = x;
  bad(0, 7) = std::numeric_limits<float>::infinity();
  CHECK(with(bad) == "position 0: observed logit 7 of 8 is +inf; logits must be finite, or -inf where masked");
  CHECK(message([&] { (void)klens::measure(x, x, largest_change{std::nan("")}); }) ==
        "position 0: largest_change: a metric is NaN");
}
