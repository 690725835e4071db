#include <klens/rank/scores.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

klens::layer_score candidate(const char* name, double kl, double sqnr, klens::outcome result = klens::outcome::measured) {
  klens::layer_score one;
  one.layer = name;
  one.scheme = "int4-channel";
  one.result = result;
  one.metrics.resize(2);
  one.metrics[0].mean = kl;
  one.metrics[1].mean = sqnr;
  return one;
}

klens::scores example() {
  klens::scores all;
  all.metrics = {{"kl", "nats/token", true}, {"sqnr", "dB", false}};
  all.candidates = {candidate("a", 0.1, 30),
                    candidate("unused", 0, std::numeric_limits<double>::infinity(), klens::outcome::output_unchanged),
                    candidate("b", 0.3, 40),
                    candidate("exact", 0, std::numeric_limits<double>::infinity(), klens::outcome::weights_unchanged),
                    candidate("c", 0.1, 10),
                    candidate("late", std::nan(""), std::nan(""), klens::outcome::not_measured)};
  return all;
}

std::string order_by(const klens::scores& all, const char* metric) {
  std::string names;
  for (const auto* each : all.ranked(metric)) names += each->layer + " ";
  return names;
}

// Whether a member of an expiring T may be called; what points into it would be gone.
template <class T>
concept finds = requires(T all) {
  static_cast<T>(all).find("a", "b");
};
template <class T>
concept ranks = requires(T all) {
  static_cast<T>(all).ranked("kl");
};
static_assert(finds<klens::scores&> && finds<const klens::scores&> && ranks<klens::scores&> && ranks<const klens::scores&>);
static_assert(!finds<klens::scores&&> && !finds<const klens::scores&&> && !ranks<klens::scores&&> &&
              !ranks<const klens::scores&&>);

// A user's metric of which lower is worse, with or without a word on how that is damage.
struct agreement {
  static constexpr std::string_view name = "agreement", unit = "share";
  static constexpr bool higher_is_worse = false;
  double operator()(const klens::position&) const { return 1; }
};
struct said_agreement : agreement {
  static constexpr klens::damage_scale damage = klens::damage_scale::one_minus_mean;
};

}  // namespace

TEST_CASE("scores: worst first in the metric's own direction, ties in scan order, what says nothing last") {
  CHECK(order_by(example(), "kl") == "b a c exact unused late ");
  CHECK(order_by(example(), "sqnr") == "c a b exact unused late ");
}

TEST_CASE("scores: infinite damage ranks first") {
  klens::scores all = example();
  all.candidates[4].metrics[0].mean = std::numeric_limits<double>::infinity();
  CHECK(order_by(all, "kl").starts_with("c b a"));
}

TEST_CASE("scores: a mean that is NaN comes last and leaves the order of the others alone") {
  for (std::size_t bad = 0; bad < 6; ++bad)
    for (const double mean : {std::nan(""), -std::nan("")}) {
      klens::scores all;
      all.metrics = {{"kl", "nats/token", true}, {"sqnr", "dB", false}};
      for (const char* name : {"1", "2", "3", "4", "5", "6"})
        all.candidates.push_back(candidate(name, static_cast<double>(name[0] - '0'), static_cast<double>(name[0] - '0')));
      all.candidates[bad].metrics[0].mean = all.candidates[bad].metrics[1].mean = mean;
      std::string falling = "6 5 4 3 2 1 ", rising = "1 2 3 4 5 6 ";
      const std::string without = std::to_string(bad + 1) + " ";
      falling.erase(falling.find(without), 2);
      rising.erase(rising.find(without), 2);
      CHECK(order_by(all, "kl") == falling + without);
      CHECK(order_by(all, "sqnr") == rising + without);
    }
}

TEST_CASE("scores: a metric that was not measured is an error that says which were") {
  const klens::scores all = example();
  CHECK_THROWS_WITH_AS((void)all.ranked("top1"), "metric 'top1' was not measured; measured were kl, sqnr",
                       klens::argument_error);
}

TEST_CASE("scores: schemes in the order in which they first come") {
  klens::scores all = example();
  all.candidates[1].scheme = "fp16";
  all.candidates[2].scheme = "int8-g32";
  all.candidates[3].scheme = "fp16";
  CHECK(all.schemes() == std::vector<std::string>{"int4-channel", "fp16", "int8-g32"});
  CHECK(klens::scores{}.schemes().empty());
}

TEST_CASE("metric_info: damage rises from 0, in decibels as noise over signal, of agreement as disagreement") {
  CHECK(klens::metric_info{"kl", "nats/token", true}.linear_damage(0.25) == 0.25);
  CHECK(klens::metric_info{"top1", "share", false}.linear_damage(0.75) == 0.25);
  CHECK(std::abs(klens::metric_info{"sqnr", "dB", false}.linear_damage(20) - 0.01) < 1e-15);
  CHECK(klens::metric_info{"sqnr", "dB", false}.linear_damage(std::numeric_limits<double>::infinity()) == 0);
}

TEST_CASE("metric_info: damage is what the metric says, and never a guess from its unit") {
  const klens::metric_info said = klens::info_of(said_agreement{}), unsaid = klens::info_of(agreement{});
  CHECK(said.linear_damage(0.75) == 0.25);
  CHECK_THROWS_WITH_AS((void)unsaid.linear_damage(0.75), doctest::Contains("metric 'agreement' does not say"),
                       klens::argument_error);
  CHECK_THROWS_AS((void)(klens::metric_info{"loudness", "dB", false}.linear_damage(20)), klens::argument_error);
  CHECK(klens::metric_info{"loudness", "dB", true}.linear_damage(20) == 20);
  CHECK(klens::metric_info{"loudness", "B", false, klens::damage_scale::noise_over_signal_db}.linear_damage(10) == 0.1);
  CHECK(klens::metric_info{"anything", "", false, klens::damage_scale::mean}.linear_damage(3) == 3);
  CHECK(klens::info_of(klens::sqnr{}).damage == klens::damage_scale::noise_over_signal_db);
}

TEST_CASE("scores: find") {
  const klens::scores all = example();
  CHECK(all.find("b", "int4-channel") == &all.candidates[2]);
  CHECK(all.find("b", "int8-channel") == nullptr);
}

TEST_CASE("scores: perplexity rests on the sequences that the candidate was measured on") {
  klens::scores all;
  all.metrics = {{"delta_ce", "nats/token", true}};
  all.reference.nll_by_sequence = {{4, 2}, {9, 3}};  // means 2 and 3, 13/5 in all
  klens::layer_score one;
  one.metrics.resize(1);
  one.metrics[0].mean = 0.25;
  one.metrics[0].by_sequence = {{0.5, 2}};
  CHECK(std::abs(all.perplexity(one) - std::exp(2.25)) < 1e-12);
  one.metrics[0].by_sequence.push_back({0.75, 3});
  CHECK(std::abs(all.perplexity(one) - std::exp(2.6 + 0.25)) < 1e-12);
  CHECK(all.reference.nll() == 2.6);
  all.metrics[0].name = "kl";
  CHECK(std::isnan(all.perplexity(one)));
}
