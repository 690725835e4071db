// How often the intervals of `klens validate` hold the truth: 95 % intervals of tau between a metric and the perplexity increase,
// and of the difference of two metrics' taus, on made-up models whose truth is known. A row for each number of sequences (of each
// text): percent of intervals that hold the statistic's mean over fresh text, and percent of wrong verdicts where both metrics
// are equally good. Arguments: studies for each made-up model (default 40), resamples (default 200).
//   layers    20, 60 or 120; true damages lognormal over about five orders of magnitude of e
//   metrics   two, each with a lognormal error of its own for every layer (sigma 0.35), the same law for both
//   text      damages of a sequence scatter by 0.3 a layer and 0.2 in common; the perplexity change by the noise of next tokens,
//             sqrt(2 damage) / 16 a sequence of 256 tokens, times 0.4, 1 or 2: from few ties to nearly all
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <klens/random.hpp>
#include <klens/stats/bootstrap.hpp>
#include <string>
#include <vector>

namespace {

using klens::contribution;
using klens::random_stream;
using sums = std::vector<std::vector<contribution>>;  // of each layer, by sequence

constexpr double metric_error = 0.35;

struct made_up_model {
  std::vector<double> increase, first, second;  // of each layer: perplexity, and what the two metrics say of endless text

  made_up_model(std::size_t layers, random_stream& random) {
    for (std::size_t i = 0; i < layers; ++i) {
      const double damage = 1e-3 * std::exp(1.3 * random.normal());
      for (std::vector<double>* each : {&increase, &first, &second})
        each->push_back(damage * std::exp(metric_error * random.normal()));
    }
  }
};

sums metric_on(const std::vector<double>& means, std::size_t sequences, random_stream& random) {
  sums by_sequence(means.size());
  for (std::size_t s = 0; s < sequences; ++s) {
    const double common = 0.2 * random.normal();
    for (std::size_t i = 0; i < means.size(); ++i)
      by_sequence[i].emplace_back(means[i] * std::exp(0.3 * random.normal() + common), 1);
  }
  return by_sequence;
}

sums increase_on(const std::vector<double>& means, double noise, std::size_t sequences, random_stream& random) {
  sums by_sequence(means.size());
  for (std::size_t s = 0; s < sequences; ++s) {
    const double common = 0.2 * random.normal();
    for (std::size_t i = 0; i < means.size(); ++i)
      by_sequence[i].emplace_back(means[i] * (1 + common) + noise * std::sqrt(2 * means[i]) / 16 * random.normal(), 1);
  }
  return by_sequence;
}

// The taus of both metrics with the increase, ties where it may be none.
struct both_taus {
  double t;  // how many standard errors an increase must have

  std::vector<klens::statistic> operator()(klens::list_means means, const klens::list_errors& errors) const {
    std::vector<double> increases;
    for (std::size_t i = 0; i < means[2].size(); ++i)
      increases.push_back(std::abs(means[2][i]) > t * errors(2, i) ? means[2][i] : 0);
    const double first = klens::kendall_tau(means[0], increases).value, second = klens::kendall_tau(means[1], increases).value;
    return {{first, klens::statistic_kind::correlation}, {first - second, klens::statistic_kind::difference}};
  }
};

std::vector<klens::estimate> study(const made_up_model& of, double noise, std::size_t sequences, std::size_t resamples,
                                   random_stream& random) {
  const sums first = metric_on(of.first, sequences, random), second = metric_on(of.second, sequences, random),
             increase = increase_on(of.increase, noise, sequences, random);
  const std::vector<klens::score_list> lists{
      {{first.begin(), first.end()}, 0}, {{second.begin(), second.end()}, 0}, {{increase.begin(), increase.end()}, 1}};
  const both_taus taus{klens::student_t_quantile(0.025, static_cast<double>(sequences) - 1)};
  return klens::bootstrap_each(lists, taus, {resamples, random.bits(), 0.95});
}

}  // namespace

int main(int count, char** arguments) {
  const auto studies = static_cast<std::size_t>(count > 1 ? std::atoi(arguments[1]) : 40);
  const auto resamples = static_cast<std::size_t>(count > 2 ? std::atoi(arguments[2]) : 200);
  constexpr std::size_t fresh = 400;
  std::printf("%9s %7s %15s %22s %27s\n", "sequences", "studies", "tau held, in %", "difference held, in %",
              "wrong verdicts of a tie, %");
  for (const std::size_t sequences : {4u, 8u, 16u, 32u, 64u}) {
    double held = 0, held_apart = 0, of_tau = 0, wrong = 0, ties = 0;
    for (const std::size_t layers : {20u, 60u, 120u})
      for (const double noise : {0.4, 1.0, 2.0})
        for (std::uint64_t which = 0; which < 4; ++which) {
          random_stream random{layers * 1000 + which, sequences};
          const made_up_model model{layers, random};
          double tau = 0, apart = 0, seen = 0;
          for (std::size_t i = 0; i < fresh; ++i) {
            const auto of = study(model, noise, sequences, 0, random);
            if (std::isnan(of[0].value)) continue;
            tau += of[0].value;
            apart += of[1].value;
            ++seen;
          }
          made_up_model tied = model;
          tied.second = tied.first;  // the same scores but for what the text does to them: the difference is 0 in truth
          for (std::size_t i = 0; i < studies / 4; ++i) {
            const auto of = study(model, noise, sequences, resamples, random);
            if (!of[0].range) continue;
            held += of[0].range->contains(tau / seen) ? 1 : 0;
            held_apart += of[1].range->contains(apart / seen) ? 1 : 0;
            ++of_tau;
            const auto null = study(tied, noise, sequences, resamples, random);
            if (!null[1].range) continue;
            wrong += null[1].range->contains(0) ? 0 : 1;
            ++ties;
          }
        }
    std::printf("%9zu %7.0f %15.1f %22.1f %27.1f\n", sequences, of_tau, 100 * held / of_tau, 100 * held_apart / of_tau,
                100 * wrong / ties);
    std::fflush(stdout);
  }
}
