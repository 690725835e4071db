#include <klens/stats/bootstrap.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

namespace {

using klens::contribution;
using candidates = std::vector<std::vector<contribution>>;

std::vector<klens::sequence_sums> views(const candidates& all) { return {all.begin(), all.end()}; }

// KL of every layer of the small trained model under one scheme, by sequence of 256 tokens.
candidates real_scores(const std::string& scheme) {
  const nlohmann::json truth = nlohmann::json::parse(std::ifstream{KLENS_TEST_DATA "/truth-calibration.json"});
  candidates all;
  for (const auto& layer : truth.at("layers"))
    if (layer.at("scheme") == scheme) {
      all.emplace_back();
      for (const double kl : layer.at("kl_per_sequence")) all.back().emplace_back(256 * kl, 256);
    }
  return all;
}

double tau_of(std::span<const std::vector<double>> means) { return klens::kendall_tau(means[0], means[1]).value; }

}  // namespace

TEST_CASE("bootstrap: the same seed gives the same numbers, on every machine") {
  klens::detail::resampled_sequences draw{1, 0, 0};
  const std::vector<contribution> powers{{1, 1}, {16, 1}, {256, 1}, {4096, 1}};
  const double mean = draw.mean(powers);  // three draws of four; three times their mean, to base 16, counts each
  CHECK(3 * mean == 0x021);
  klens::detail::resampled_sequences again{1, 0, 0}, other{2, 0, 0}, next{1, 1, 0};
  CHECK(again.mean(powers) == mean);
  CHECK((other.mean(powers) != mean || next.mean(powers) != mean));
}

TEST_CASE("bootstrap: candidates that saw the same sequences are drawn together") {
  klens::detail::resampled_sequences draw{3, 0, 0};
  const std::vector<contribution> a{{1, 2}, {5, 2}, {2, 2}}, tenfold{{10, 2}, {50, 2}, {20, 2}},
      longer{{1, 1}, {2, 1}, {3, 1}, {4, 1}};
  const double first = draw.mean(a);
  (void)draw.mean(longer);  // another length in between does not disturb it
  CHECK(draw.mean(tenfold) == 10 * first);
}

TEST_CASE("bootstrap: resampled means scatter as means of fresh sequences do") {
  // values 0 and 6: the variance of a fresh mean of four, from these, is s^2 / 4 = 12 / 4
  const std::vector<contribution> values{{0, 1}, {6, 1}, {6, 1}, {0, 1}};
  double sum = 0, squares = 0;
  constexpr int count = 20000;
  for (std::size_t r = 0; r < count; ++r) {
    const double mean = klens::detail::resampled_sequences{5, r, 0}.mean(values);
    sum += mean;
    squares += mean * mean;
  }
  const double variance = squares / count - sum / count * (sum / count);
  CHECK(std::abs(sum / count - 3) < 5 * std::sqrt(3.0 / count));
  CHECK(std::abs(variance - 3) < 5 * 3 * std::sqrt(2.0 / count));
}

TEST_CASE("bootstrap: resampled means scatter as those of fewer or more fresh sequences do, where asked to") {
  const std::vector<contribution> values{{0, 1}, {6, 1}, {6, 1}, {0, 1}};  // s^2 = 12
  for (const std::size_t fresh : {1u, 16u}) {
    double squares = 0;
    constexpr int count = 20000;
    for (std::size_t r = 0; r < count; ++r)
      squares += std::pow(klens::detail::resampled_sequences{5, r, 0, fresh}.mean(values) - 3, 2);
    // one draw cannot scatter like one fresh sequence: whole draws of 4 known values have variance 9 at most
    const double variance = fresh == 1 ? 9 : 12.0 / static_cast<double>(fresh);
    CHECK(std::abs(squares / count - variance) < 5 * variance * std::sqrt(2.0 / count));
  }
}

TEST_CASE("bootstrap: many statistics from the same draws are each what they are alone") {
  const candidates kl = real_scores("int4-channel-f32"), coarse = real_scores("int8-channel-f32");
  const std::vector<klens::score_list> lists{{views(kl), 0}, {views(coarse), 1}};
  const auto first = [](std::span<const std::vector<double>> means) { return means[0][0]; };
  const auto both = [&](std::span<const std::vector<double>> means) {
    return std::vector<double>{first(means), std::nan(""), tau_of(means)};
  };
  const std::vector<klens::estimate> found = klens::bootstrap_each(lists, both, {.resamples = 100});
  REQUIRE(found.size() == 3);
  const klens::estimate mean = klens::bootstrap(lists, first, {.resamples = 100});
  const klens::estimate tau = klens::bootstrap(lists, tau_of, {.resamples = 100});
  CHECK(found[0].value == mean.value);
  CHECK(found[0].range->low == mean.range->low);
  CHECK_FALSE(found[1].range);
  CHECK(found[2].value == tau.value);
  CHECK(found[2].range->high == tau.range->high);
}

TEST_CASE("bootstrap: the interval of a mean is about that of Student's t") {
  klens::detail::random_stream random{8};
  candidates one(1);
  for (int s = 0; s < 16; ++s) one[0].emplace_back(random.uniform(), 1);
  const std::vector<klens::score_list> lists{{views(one), 0}};
  const auto found = klens::bootstrap(lists, [](auto means) { return means[0][0]; }, {.resamples = 20000});
  const auto expected = klens::mean_interval(one[0]);
  CHECK(found.value == klens::mean_of(one[0]));
  CHECK(std::abs(found.range->low - expected->low) < 0.1 * (expected->high - expected->low));
  CHECK(std::abs(found.range->high - expected->high) < 0.1 * (expected->high - expected->low));
}

TEST_CASE("bootstrap: with few sequences the tails are those of Student's t, beside every mean that can be drawn") {
  // Six sequences: a mean of five draws is one of 6^5. The share of them beyond the interval on either side is that of the
  // normal distribution beyond t(0.975, 5 dof) = 2.5705818366, 0.0050763, not the 0.025 of the plain percentile interval.
  candidates one{{{0.11, 1}, {1.32, 1}, {2.03, 1}, {3.57, 1}, {4.21, 1}, {5.94, 1}}};
  std::vector<double> all;
  for (int draws = 0; draws < 6 * 6 * 6 * 6 * 6; ++draws) {
    double mean = 0;
    for (int rest = draws, i = 0; i < 5; ++i, rest /= 6) mean += one[0][static_cast<std::size_t>(rest % 6)].value / 5;
    all.push_back(mean);
  }
  std::ranges::sort(all);
  const std::vector<klens::score_list> lists{{views(one), 0}};
  constexpr std::size_t resamples = 20000;
  const auto found = klens::bootstrap(lists, [](auto means) { return means[0][0]; }, {.resamples = resamples});
  // The interval is moved so that its middle is the value found; of the resamples' median it is known where it lies, too.
  const double share = 0.0050763, noise = 5 * std::sqrt(share / resamples);  // five standard errors of the drawn share
  const auto at = [&](double part) { return all[static_cast<std::size_t>(part * static_cast<double>(all.size() - 1))]; };
  const double width = found.range->high - found.range->low;
  CHECK(width < at(1 - share + noise) - at(share - noise));
  CHECK(width > at(1 - share - noise) - at(share + noise));
  CHECK(at(1 - share - noise) - at(share + noise) > 1.1 * (at(0.975) - at(0.025)));  // which would be told apart
}

TEST_CASE("bootstrap: the interval lies about the value, also where resampling pulls the statistic away") {
  klens::detail::random_stream random{6};
  candidates noise(40);
  for (auto& each : noise)
    for (int s = 0; s < 8; ++s) each.emplace_back(random.uniform(), 1);
  const std::vector<klens::score_list> lists{{views(noise), 0}};
  const auto largest = [](std::span<const std::vector<double>> means) { return std::ranges::max(means[0]); };
  const auto middle = klens::bootstrap(lists, largest, {.resamples = 501, .confidence = 1e-12});
  CHECK(std::abs(middle.range->low - middle.value) < 1e-9);
  CHECK(std::abs(middle.range->high - middle.value) < 1e-9);
}

TEST_CASE("bootstrap: rank statistics have intervals of Student's t on their own scale") {
  // z = atanh(tau) of these resamples: 0 and 1, half each; their standard deviation is 1/2
  const double one = std::tanh(1.0), t = 2;
  const std::vector<double> again{0, one, 0, one};
  const auto tau = klens::detail::rank_interval({std::tanh(0.5), klens::statistic_kind::correlation}, again, t);
  CHECK(std::abs(tau.low - std::tanh(0.5 - t * 1.15 * 0.5)) < 1e-12);
  CHECK(std::abs(tau.high - std::tanh(0.5 + t * 1.15 * 0.5)) < 1e-12);
  const auto apart = klens::detail::rank_interval({0.1, klens::statistic_kind::difference}, std::vector{0.0, 0.2}, t);
  CHECK(std::abs(apart.low - (0.1 - t * 1.15 * 0.1)) < 1e-12);
  // a share: asin(sqrt(1/2)) is a quarter of pi, asin(sqrt(1)) half of it
  const auto share = klens::detail::rank_interval({0.5, klens::statistic_kind::share}, std::vector{0.5, 1.0}, t);
  const double quarter = std::acos(-1.0) / 4;
  CHECK(std::abs(share.low - std::pow(std::sin(std::max(0.0, quarter - t * 1.15 * quarter / 2)), 2)) < 1e-12);
  CHECK(share.high == 1);
  const auto sure = klens::detail::rank_interval({1, klens::statistic_kind::correlation}, std::vector{1.0, 1.0}, t);
  CHECK(sure.low == 1);
  CHECK(sure.high == 1);
}

TEST_CASE("bootstrap: statistics get standard errors, and decide with them anew in every resample") {
  const candidates values{{{1, 1}, {3, 1}, {5, 1}, {7, 1}}};  // mean 4, s^2 = 20/3, standard error sqrt(20/3/4)
  const std::vector<klens::score_list> lists{{views(values), 0}};
  std::vector<double> seen;
  const auto error = [&](klens::list_means means, const klens::list_errors& errors) {
    seen.push_back(errors(0, 0));
    return std::vector<klens::statistic>{means[0][0]};
  };
  (void)klens::bootstrap_each(lists, error, {.resamples = 500});
  CHECK(std::abs(seen.front() - std::sqrt(20.0 / 3 / 4)) < 1e-12);
  // Three draws: the squares about their own mean add up to 2 x 5 on average, 5 being the variance of the four values, and the
  // error's square is their sum x 3 draws / (4 - 1) / (weight 3)^2.
  double squares = 0;
  for (std::size_t r = 1; r < seen.size(); ++r) squares += seen[r] * seen[r] / 500;
  CHECK(std::abs(squares - 10.0 / 9) < 0.12);  // five standard errors of 500 resamples
  CHECK(std::ranges::max(seen) != std::ranges::min(seen));
}

TEST_CASE("bootstrap: tau between two lists, and what has no interval") {
  const candidates kl = real_scores("int4-channel-f32"), coarse = real_scores("int8-channel-f32");
  REQUIRE(kl.size() == 57);
  const std::vector<klens::score_list> lists{{views(kl), 0}, {views(coarse), 0}};
  const auto found = klens::bootstrap(lists, tau_of, {.resamples = 200});
  CHECK(found.range->contains(found.value));
  CHECK(found.range->low > 0.9);
  CHECK(found.range->high - found.range->low < 0.06);
  CHECK(klens::bootstrap(lists, tau_of, {.resamples = 200}).range->low == found.range->low);
  CHECK(klens::bootstrap(lists, tau_of, {.resamples = 200, .seed = 2}).range->low != found.range->low);

  const candidates single{{{1, 1}}, {{2, 1}}};
  const std::vector<klens::score_list> too_few{{views(single), 0}, {views(single), 0}};
  CHECK(klens::bootstrap(too_few, tau_of).value == 1);
  CHECK_FALSE(klens::bootstrap(too_few, tau_of).range);
  CHECK_FALSE(klens::bootstrap(lists, [](auto) { return std::nan(""); }).range);
}

TEST_CASE("expected tau: between the halves of the real sequences") {
  for (const char* scheme : {"int4-channel-f32", "int8-channel-f32"}) {
    const candidates all = real_scores(scheme);
    double between = 0, expected = 0;
    constexpr int splits = 40;
    for (std::size_t split = 0; split < splits; ++split) {
      std::vector<std::size_t> order(16);
      std::iota(order.begin(), order.end(), std::size_t{0});
      klens::detail::random_stream random{split};
      for (std::size_t i = 0; i < 16; ++i) std::swap(order[i], order[i + random.below(16 - i)]);
      candidates half(all.size());
      std::vector<double> first(all.size()), second(all.size());
      for (std::size_t c = 0; c < all.size(); ++c)
        for (std::size_t s = 0; s < 8; ++s) {
          half[c].push_back(all[c][order[s]]);
          first[c] += all[c][order[s]].value;
          second[c] += all[c][order[8 + s]].value;
        }
      between += klens::kendall_tau(first, second).value / splits;
      expected += klens::expected_tau(views(half), {.resamples = 100, .seed = split}) / splits;
    }
    // The standard error of `between` is 0.001; one side noisy alone would give 0.983 for 0.972.
    CHECK(std::abs(expected - between) < 0.005);
  }
}

TEST_CASE("expected tau: by fewer sequences than were measured") {
  const candidates all = real_scores("int4-channel-f32");
  REQUIRE(all.front().size() == 16);
  double between = 0;  // quarters of the sequences, every pair of them: 6 taus of 60 splits
  constexpr int splits = 60;
  for (std::size_t split = 0; split < splits; ++split) {
    std::vector<std::size_t> order(16);
    std::iota(order.begin(), order.end(), std::size_t{0});
    klens::detail::random_stream random{split};
    for (std::size_t i = 0; i < 16; ++i) std::swap(order[i], order[i + random.below(16 - i)]);
    std::vector<std::vector<double>> quarter(4, std::vector<double>(all.size()));
    for (std::size_t c = 0; c < all.size(); ++c)
      for (std::size_t s = 0; s < 16; ++s) quarter[s / 4][c] += all[c][order[s]].value;
    for (std::size_t a = 0; a < 4; ++a)
      for (std::size_t b = a + 1; b < 4; ++b) between += klens::kendall_tau(quarter[a], quarter[b]).value / (6 * splits);
  }
  CHECK(std::abs(klens::expected_tau(views(all), {}, 4) - between) < 0.005);
  CHECK(klens::expected_tau(views(all), {}, 16) == klens::expected_tau(views(all)));
  CHECK(klens::expected_tau(views(all), {}, 64) > klens::expected_tau(views(all)));
}

TEST_CASE("expected tau: sure orders, hopeless orders, nothing") {
  const candidates sure{{{1, 1}, {1, 1}}, {{2, 1}, {2, 1}}, {{3, 1}, {3, 1}}}, single{{{1, 1}}, {{2, 1}}};
  CHECK(klens::expected_tau(views(sure)) == 1);
  CHECK(std::isnan(klens::expected_tau(views(single))));
  // all ties: a third of the pairs seem ordered, as stated
  klens::detail::random_stream random{4};
  candidates ties(60);
  for (auto& each : ties)
    for (int s = 0; s < 32; ++s) each.emplace_back(random.uniform(), 1);
  CHECK(std::abs(klens::expected_tau(views(ties), {.resamples = 400}) - 1.0 / 3) < 0.05);
}

TEST_CASE("bootstrap: what cannot be is refused before a resample is drawn") {
  const std::vector<klens::contribution> two{{1, 2}, {3, 4}};
  const auto mean = [](std::span<const std::vector<double>> means) { return means[0][0]; };
  const std::vector<klens::score_list> lists{{{two}, 0}};
  CHECK_THROWS_AS((void)klens::bootstrap(lists, mean, {.confidence = 95}), klens::argument_error);
  const std::vector<klens::score_list> far{{{two}, std::size_t{1} << 40}};
  CHECK_THROWS_AS((void)klens::bootstrap(far, mean), klens::argument_error);
  int calls = 0;
  const auto growing = [&](std::span<const std::vector<double>>) {
    return std::vector<double>(static_cast<std::size_t>(++calls), 1.0);
  };
  CHECK_THROWS_AS((void)klens::bootstrap_each(lists, growing), klens::shape_error);
}
