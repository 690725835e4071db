#include <klens/rank/any_stopping_rule.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <klens/detail/random.hpp>
#include <klens/stats/rank_correlation.hpp>
#include <nlohmann/json.hpp>
#include <numbers>
#include <numeric>
#include <set>
#include <string>
#include <vector>

namespace {

using klens::contribution;
using klens::look;
using klens::standing;
using candidates = std::vector<std::vector<contribution>>;

struct outcome {
  std::vector<standing> at_end;
  candidates seen;
  double cost = 0;  // of the exhaustive scan's
};

// A scan: after every `batch` sequences the rule is asked.
template <class Rule>
outcome scan(const candidates& all, const Rule& rule, std::size_t batch, look settings = {}) {
  const std::size_t sequences = all.front().size();
  outcome result{std::vector<standing>(all.size(), standing::open), candidates(all.size()), 0};
  for (std::size_t before = 0; before < sequences; before += batch) {
    if (std::ranges::count(result.at_end, standing::open) == 0) break;
    const std::size_t now = std::min(before + batch, sequences);
    for (std::size_t c = 0; c < all.size(); ++c)
      if (result.at_end[c] == standing::open) {
        result.seen[c].assign(all[c].begin(), all[c].begin() + static_cast<std::ptrdiff_t>(now));
        result.cost += static_cast<double>(now - before) / static_cast<double>(sequences * all.size());
      }
    const std::vector<klens::sequence_sums> views(result.seen.begin(), result.seen.end());
    settings.candidates = views;
    settings.standings = result.at_end;
    settings.sequences = now;
    settings.sequences_before = before;
    result.at_end = rule(settings);
  }
  return result;
}

std::vector<double> means(const candidates& all) {
  std::vector<double> found;
  for (const auto& each : all) found.push_back(klens::mean_of(each));
  return found;
}

// The share of the candidates that are on the right side, those open at the end taking the seats that are left by their means.
double agreement(const outcome& found, const candidates& all, std::size_t seats) {
  const auto order_of = [](const std::vector<double>& scores) {
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    return order;
  };
  std::vector<standing> sides = found.at_end;
  for (const std::size_t c : order_of(means(found.seen)))
    if (sides[c] == standing::open)
      sides[c] =
          std::ranges::count(sides, standing::above) < static_cast<std::ptrdiff_t>(seats) ? standing::above : standing::below;
  const auto truth = order_of(means(all));
  double right = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) right += (sides[truth[i]] == standing::above) == (i < seats);
  return right / static_cast<double>(truth.size());
}

// The small trained model, 57 layers, 16 sequences of 256 tokens in an order drawn by the seed.
candidates real_scores(const std::string& scheme, std::uint64_t seed) {
  static const nlohmann::json truth = nlohmann::json::parse(std::ifstream{KLENS_TEST_DATA "/truth-calibration.json"});
  std::vector<std::size_t> order(16);
  std::iota(order.begin(), order.end(), std::size_t{0});
  klens::detail::random_stream random{seed};
  for (std::size_t i = 0; i < order.size(); ++i) std::swap(order[i], order[i + random.below(order.size() - i)]);
  candidates all;
  for (const auto& layer : truth.at("layers"))
    if (layer.at("scheme") == scheme) {
      all.emplace_back();
      for (const std::size_t s : order) all.back().emplace_back(256 * layer.at("kl_per_sequence")[s].get<double>(), 256);
    }
  return all;
}

// Scores whose logarithms are normal: a mean for each candidate, a part common to all in each sequence, and noise.
candidates made_up(std::uint64_t seed, std::size_t count, std::size_t sequences, double spread, double noise,
                   std::vector<double>* truth) {
  klens::detail::random_stream random{seed};
  const auto normal = [&random] {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    return radius * std::cos(2 * std::numbers::pi * random.uniform());
  };
  std::vector<double> centre(count), hard(sequences);
  for (double& each : centre) each = spread * normal();
  for (double& each : hard) each = 0.3 * normal();
  candidates all(count);
  for (std::size_t c = 0; c < count; ++c)
    for (std::size_t s = 0; s < sequences; ++s) all[c].emplace_back(std::exp(centre[c] + hard[s] + noise * normal()), 1);
  if (truth) *truth = centre;
  return all;
}

}  // namespace

TEST_CASE("stopping: exhaustive changes nothing") {
  const auto found = scan(real_scores("int4-channel-f32", 1), klens::exhaustive{}, 2);
  CHECK(std::ranges::count(found.at_end, standing::open) == 57);
  CHECK(std::abs(found.cost - 1) < 1e-12);
}

TEST_CASE("stopping: the error rate is spent once, whatever the batches") {
  double spent = 0;
  for (const auto& [before, now] : {std::pair{0, 1}, {1, 2}, {2, 3}, {3, 8}, {8, 64}})
    spent += klens::detail::error_to_spend(
        {.confidence = 0.9, .sequences = std::size_t(now), .sequences_before = std::size_t(before)});
  CHECK(std::abs(spent - 0.1 * (1 - 1.0 / 64)) < 1e-15);
}

TEST_CASE("stopping: nothing is settled by one sequence, clear things are by a few") {
  const candidates clear{{{100, 1}, {101, 1}, {99, 1}, {100, 1}},
                         {{50, 1}, {51, 1}, {49, 1}, {50, 1}},
                         {{1, 1}, {1.1, 1}, {1, 1}, {1, 1}},
                         {{0.5, 1}, {0.5, 1}, {0.51, 1}, {0.5, 1}}};
  const std::vector<standing> open(4, standing::open);
  const std::vector<klens::sequence_sums> views(clear.begin(), clear.end());
  look at{.candidates = views, .standings = open, .sequences = 1};
  CHECK(klens::top{2}(at) == open);
  CHECK(klens::order{0.5}(at) == open);
  at.sequences = 4;
  CHECK(klens::top{2}(at) == std::vector{standing::above, standing::above, standing::below, standing::below});
  CHECK(klens::split{0.25}(at) == std::vector{standing::above, standing::below, standing::below, standing::below});
  CHECK(klens::order{0.99}(at) == std::vector<standing>(4, standing::ordered));
  at.higher_is_worse = false;
  CHECK(klens::top{2}(at) == std::vector{standing::below, standing::below, standing::above, standing::above});
}

TEST_CASE("stopping: caution steadies variances upwards only") {
  const candidates all = real_scores("int4-channel-f32", 3);
  const std::vector<klens::sequence_sums> views(all.begin(), all.end());
  const std::vector<standing> open(all.size(), standing::open);
  const klens::detail::paired_comparison compare{
      {.candidates = views, .standings = open, .sequences = 3, .sequences_in_all = 16}};
  std::vector<klens::detail::paired_comparison::difference> apart;
  for (std::size_t i = 1; i < compare.size(); ++i) apart.push_back(compare(i - 1, i));
  const auto bold = compare.chances_of_reversal(apart, false), cautious = compare.chances_of_reversal(apart, true);
  int raised = 0;
  for (std::size_t i = 0; i < bold.size(); ++i) {
    CHECK(cautious[i] >= bold[i]);
    raised += cautious[i] > bold[i];
  }
  CHECK(raised > 10);
  CHECK(raised < 50);
}

TEST_CASE("stopping: a place is settled at the confidence that the t test gives, to the last digits") {
  // Means 2 and 1 are compared by their logarithms. The first is sure; the second's sequences move it by -0.1, 0 and 0.1, with
  // variance 0.02 / (3 - 1) and standard error sqrt(0.01 / 3). With 2 degrees of freedom P(T > t) = (1 - t / sqrt(2 + t^2)) / 2.
  const candidates two{{{2, 1}, {2, 1}, {2, 1}}, {{0.9, 1}, {1, 1}, {1.1, 1}}};
  const std::vector<klens::sequence_sums> views(two.begin(), two.end());
  const std::vector<standing> open(2, standing::open);
  const auto settles_at = [&](std::size_t in_all, double chance) {
    // By three sequences two thirds of the allowed error are spent, on each look that begins with the first.
    look at{.candidates = views, .standings = open, .confidence = 1 - chance * 1.5, .sequences = 3, .sequences_in_all = in_all};
    return klens::top{1}(at) != open;
  };
  for (const std::size_t in_all : {0, 12}) {
    const double unseen = in_all == 0 ? 1 : 0.75;  // the error of a mean over 3 of 12
    const double t = std::log(2.0) / std::sqrt(0.01 * unseen / 3), chance = (1 - t / std::sqrt(2 + t * t)) / 2;
    CHECK(settles_at(in_all, chance * 1.001));
    CHECK_FALSE(settles_at(in_all, chance * 0.999));
  }
}

TEST_CASE("stopping: seats that are taken stay taken, and the rest falls into place") {
  const candidates some{{{1, 1}}, {{2, 1}}, {{3, 1}}};
  const std::vector<klens::sequence_sums> views(some.begin(), some.end());
  const std::vector<standing> taken{standing::above, standing::open, standing::open};
  look at{.candidates = views, .standings = taken, .sequences = 1};
  CHECK(klens::top{1}(at) == std::vector{standing::above, standing::below, standing::below});
  CHECK(klens::top{3}(at) == std::vector{standing::above, standing::above, standing::above});
  CHECK(klens::top{2}(at) == taken);
  CHECK(klens::top{0}(at) == std::vector{standing::above, standing::below, standing::below});
}

TEST_CASE("stopping: ties stay open until the end of the calibration set is in sight") {
  const candidates ties{{{1, 1}, {3, 1}, {2, 1}, {2, 1}}, {{3, 1}, {1, 1}, {2, 1}, {2, 1}}, {{2, 1}, {2, 1}, {3, 1}, {1.5, 1}}};
  CHECK(scan(ties, klens::top{1}, 1).at_end == std::vector<standing>(3, standing::open));
  CHECK(scan(ties, klens::order{0.9}, 1).at_end == std::vector<standing>(3, standing::open));
  const candidates same{{{1, 1}, {2, 1}}, {{1, 1}, {2, 1}}};
  CHECK(scan(same, klens::top{1}, 1).at_end == std::vector<standing>(2, standing::open));
}

TEST_CASE("stopping: no damage, infinite damage, negative means, nothing measured") {
  const double infinite = klens::unbounded;
  const candidates zero{{{0, 1}, {0, 1}, {0, 1}}, {{0, 1}, {0, 1}, {0, 1}}, {{1, 1}, {2, 1}, {1, 1}}};
  CHECK(scan(zero, klens::top{1}, 3).at_end == std::vector{standing::below, standing::below, standing::above});
  const candidates wild{{{infinite, 1}, {1, 1}, {2, 1}}, {{1, 1}, {2, 1}, {1, 1}}, {{0, 0}, {0, 0}, {0, 0}}};
  CHECK(scan(wild, klens::top{1}, 3).at_end == std::vector{standing::above, standing::below, standing::below});
  const candidates negative{{{-5, 1}, {-5.1, 1}, {-5, 1}}, {{1, 1}, {1.1, 1}, {1, 1}}, {{0.2, 1}, {0.1, 1}, {0.2, 1}}};
  CHECK(scan(negative, klens::top{2}, 3).at_end == std::vector{standing::below, standing::above, standing::above});
}

TEST_CASE("stopping: a share of the layers of a trained model") {
  for (const char* scheme : {"int4-channel-f32", "int8-channel-f32"}) {
    double cost = 0, right = 0;
    constexpr int seeds = 20;
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      const candidates all = real_scores(scheme, seed);
      const auto found = scan(all, klens::split{0.5}, 1, {.confidence = 0.99, .sequences_in_all = 16});
      cost += found.cost / seeds;
      right += agreement(found, all, 29) / seeds;
    }
    CHECK(right >= 0.98);
    CHECK(cost < 0.26);  // of 16 sequences; two of them are the least that anything can rest on
  }
}

TEST_CASE("stopping: an order of the layers of a trained model") {
  for (const char* scheme : {"int4-channel-f32", "int8-channel-f32"}) {
    int good = 0;
    double cost = 0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const candidates all = real_scores(scheme, seed);
      const auto found = scan(all, klens::order{0.95}, 1, {.confidence = 0.95, .sequences_in_all = 16});
      good += klens::kendall_tau(means(found.seen), means(all)).value >= 0.95;
      cost += found.cost / 20;
    }
    CHECK(good >= 19);
    CHECK(cost <= 0.2);  // three of 16 sequences, more or less
  }
}

TEST_CASE("stopping: a stricter order takes more") {
  for (const char* scheme : {"int4-channel-f32", "int8-channel-f32"}) {
    double tau = 0, cost = 0, unsure = 0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const candidates all = real_scores(scheme, seed);
      const auto found = scan(all, klens::order{0.98}, 1, {.confidence = 0.95, .sequences_in_all = 16});
      tau += klens::kendall_tau(means(found.seen), means(all)).value / 20;
      cost += found.cost / 20;
      unsure += scan(all, klens::order{0.98}, 1, {.confidence = 0.5, .sequences_in_all = 16}).cost / 20;
    }
    CHECK(tau >= 0.98);
    CHECK(cost < 0.6);
    CHECK(unsure < cost - 0.05);  // confidence has its price
  }
}

TEST_CASE("stopping: confidence holds over all looks, even where nearly everything is a tie") {
  double wrong = 0, count = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    std::vector<double> truth;
    const candidates all = made_up(seed, 40, 64, 0.05, 0.4, &truth);
    const auto found = scan(all, klens::split{0.5}, 1, {.confidence = 0.95});  // of endless text: no end in sight
    std::vector<double> sorted = truth;
    std::ranges::sort(sorted, std::ranges::greater{});
    for (std::size_t c = 0; c < truth.size(); ++c) {
      wrong += klens::is_settled(found.at_end[c]) && (found.at_end[c] == standing::above) != (truth[c] >= sorted[19]);
      count += 1;
    }
  }
  CHECK(wrong / count < 0.05);
}

TEST_CASE("stopping: a budget ends before a batch that would exceed it") {
  const candidates some{{{1, 1}, {2, 1}}, {{2, 1}, {1, 1}}};
  const std::vector<klens::sequence_sums> views(some.begin(), some.end());
  const std::vector<standing> open(2, standing::open), stopped(2, standing::stopped);
  look at{.candidates = views, .standings = open, .sequences = 2, .sequences_before = 1, .forwards = 6, .seconds = 60};
  CHECK(klens::budget{.forwards = 9}(at) == open);  // three a sequence
  CHECK(klens::budget{.forwards = 8.9}(at) == stopped);
  CHECK(klens::budget{.seconds = 90}(at) == open);
  CHECK(klens::budget{.seconds = 89}(at) == stopped);
  CHECK_FALSE(klens::is_settled(standing::stopped));
}

TEST_CASE("stopping: rules from text and back") {
  for (const char* text : {"exhaustive", "top:10", "split:0.5", "order:0.95", "budget:20", "budget:90s", "budget:0.5"})
    CHECK(klens::any_stopping_rule::parse(text).name == text);
  CHECK(klens::any_stopping_rule{}.name == "exhaustive");
  for (const char* text : {"", "top", "top:", "top:0", "top:2.5", "top:-1", "split:0", "split:1", "split:x", "order:1",
                           "budget:0", "budget:s", "budget:nan", "top:3s", "halve:0.5", "split:0.5 ", "exhaustive:1"})
    CHECK_THROWS_AS((void)klens::any_stopping_rule::parse(text), klens::argument_error);
  CHECK_THROWS_WITH_AS(
      (void)klens::any_stopping_rule::parse("top:0"),
      "stopping rule 'top:0' is none of exhaustive, top:K (K >= 1), split:SHARE and order:TAU (between 0 and 1), "
      "budget:FORWARDS, budget:SECONDSs",
      klens::argument_error);
}

TEST_CASE("stopping: a rule of one's own") {
  struct two_sequences {
    std::vector<standing> operator()(const look& at) const {
      std::vector<standing> now(at.standings.begin(), at.standings.end());
      if (at.sequences >= 2) std::ranges::replace(now, standing::open, standing::stopped);
      return now;
    }
    std::string name() const { return "two"; }
  };
  static_assert(klens::stopping_rule<two_sequences>);
  CHECK(std::abs(scan(real_scores("int4-channel-f32", 0), klens::any_stopping_rule{two_sequences{}}, 1).cost - 2.0 / 16) <
        1e-12);
}
