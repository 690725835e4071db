#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/random.hpp>
#include <klens/error.hpp>
#include <klens/stats/interval.hpp>
#include <klens/stats/rank_correlation.hpp>
#include <klens/stats/student_t.hpp>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// How often and from where: the same seed gives the same numbers on every machine.
struct bootstrap_options {
  std::size_t resamples = 1000;
  std::uint64_t seed = 1;
  double confidence = 0.95;
};

/// One score for each candidate, by sequence. Lists of one token set rest on the same sequences and are resampled together.
struct score_list {
  std::vector<sequence_sums> candidates;
  std::size_t token_set = 0;  ///< from 0
};

namespace detail {

/// Draws sequences anew, with replacement: one fewer than there are, since the mean of n - 1 of them scatters as a mean of n
/// fresh sequences does (n of them scatter too little, by (n-1)/n).
/// Source     J. N. K. Rao and C. F. J. Wu, J. Amer. Statist. Assoc. 83 (1988) 231-241.
///   fresh  how many fresh sequences the mean is to scatter like; 0: as many as there are
class resampled_sequences {
 public:
  resampled_sequences(std::uint64_t seed, std::size_t resample, std::size_t token_set, std::size_t fresh = 0) noexcept
      : random_{seed, resample + (static_cast<std::uint64_t>(token_set) << 40)}, fresh_{fresh} {}

  /// The mean of one candidate. Those that have seen equally many sequences get the same draws.
  [[nodiscard]] double mean(sequence_sums by_sequence) {
    const std::size_t n = by_sequence.size();
    if (n < 2) return mean_of(by_sequence);
    const std::size_t draws = fresh_ == 0 ? n - 1 : std::max<std::size_t>(1, (fresh_ * (n - 1) + n / 2) / n);
    while (draws_.size() < draws) draws_.push_back(random_.uniform());
    if (counts_.size() != n) {
      counts_.assign(n, 0);
      for (std::size_t i = 0; i < draws; ++i) counts_[static_cast<std::size_t>(draws_[i] * static_cast<double>(n))] += 1;
    }
    contribution total{0, 0};
    for (std::size_t s = 0; s < n; ++s)
      if (counts_[s] > 0) {
        total.value += counts_[s] * by_sequence[s].value;
        total.weight += counts_[s] * by_sequence[s].weight;
      }
    return total.value / total.weight;
  }

 private:
  random_stream random_;
  std::size_t fresh_;
  std::vector<double> draws_;
  std::vector<double> counts_;
};

/// The value that a share of the sorted ones lies below, between neighbours by straight lines.
[[nodiscard]] inline double quantile_of(std::span<const double> sorted, double share) noexcept {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace detail

/// Statistics of lists of scores, with an interval over sequences: tau between a metric and the perplexity increase, the
/// difference of two such taus, for any number of metrics from the same draws.
///   statistics(std::span<const std::vector<double>> means) -> std::vector<double>, always as many;
///   means[i][c] belongs to lists[i].candidates[c]
/// The interval is where a statistic would lie on other sequences, as many: the percentile interval, with the tails that
/// Student's t has at so few sequences, moved so that its median is the value found (resampling adds noise to what is noisy
/// already, which pulls every tau towards 0; the spread is what can be trusted). Its ends may pass the statistic's own limits.
/// Edges      no range where a candidate has fewer than two sequences, or the statistic is a NaN.
/// Throws     argument_error for a confidence outside 0 .. 1 and a token set that is no index into the lists; shape_error for
///            statistics that give a varying number of values.
/// Precision  a 95 % interval held its target in 89 to 98 % of the cases, with 8 to 64 sequences of a small trained model
///            (docs/theory.md has the table).
/// Source     B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; tails: T. C. Hesterberg, The
///            American Statistician 69 (2015) 371-386.
template <class Statistics>
[[nodiscard]] std::vector<estimate> bootstrap_each(std::span<const score_list> lists, const Statistics& statistics,
                                                   const bootstrap_options& options = {}) {
  detail::expect_confidence(options.confidence);
  for (const score_list& each : lists)
    if (each.token_set >= lists.size())
      throw argument_error{"bootstrap: a list is of token set " + std::to_string(each.token_set) + "; count sets from 0, " +
                           std::to_string(lists.size()) + " lists have no more"};
  std::vector<std::vector<double>> means(lists.size());
  const auto fill = [&](const auto& mean) {
    for (std::size_t i = 0; i < lists.size(); ++i) {
      means[i].clear();
      for (const sequence_sums& each : lists[i].candidates) means[i].push_back(mean(lists[i].token_set, each));
    }
  };
  std::size_t fewest = std::numeric_limits<std::size_t>::max();
  fill([&](std::size_t, sequence_sums sums) {
    fewest = std::min(fewest, sums.size());
    return mean_of(sums);
  });
  std::vector<estimate> found;
  for (const double each : statistics(std::span<const std::vector<double>>{means})) found.push_back({each, std::nullopt});
  if (fewest < 2) return found;

  std::vector<std::vector<double>> again(found.size());
  for (std::size_t r = 0; r < options.resamples; ++r) {
    std::vector<detail::resampled_sequences> sets;
    fill([&](std::size_t set, sequence_sums sums) {
      while (sets.size() <= set) sets.emplace_back(options.seed, r, sets.size());
      return sets[set].mean(sums);
    });
    const std::vector<double> values = statistics(std::span<const std::vector<double>>{means});
    if (values.size() != found.size())
      throw shape_error{"bootstrap: statistics gave " + std::to_string(found.size()) + " values, then " +
                        std::to_string(values.size()) + "; it must always give as many"};
    for (std::size_t i = 0; i < values.size(); ++i)
      if (!detail::is_nan(values[i])) again[i].push_back(values[i]);
  }
  const double t = student_t_quantile((1 - options.confidence) / 2, static_cast<double>(fewest) - 1);
  const double tail = student_t_tail(t, unbounded);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (detail::is_nan(found[i].value) || again[i].empty()) continue;
    std::sort(again[i].begin(), again[i].end());
    const double shift = found[i].value - detail::quantile_of(again[i], 0.5);
    found[i].range = interval{detail::quantile_of(again[i], tail) + shift, detail::quantile_of(again[i], 1 - tail) + shift};
  }
  return found;
}

/// The same for a single one: statistic(std::span<const std::vector<double>> means) -> double.
template <class Statistic>
[[nodiscard]] estimate bootstrap(std::span<const score_list> lists, const Statistic& statistic,
                                 const bootstrap_options& options = {}) {
  const auto alone = [&](std::span<const std::vector<double>> means) { return std::vector<double>{statistic(means)}; };
  return bootstrap_each(lists, alone, options).front();
}

/// How stable a ranking is: the Kendall's tau to expect between it and a ranking by as many fresh sequences; NaN with one.
///   sequences  between two rankings by so many sequences, fewer or more than there are; 0: as many
///   The mean tau between two resamples. (Between the ranking itself and one resample only one side would be noisy, and tau too
///   high: 0.979 instead of 0.962 at 4 sequences.)
/// Precision  too high by 0.005 at 4 sequences, 0.001 from 8 on, on a small trained model of 57 layers (docs/theory.md); too
///            high by up to 1/3 among candidates that are ties in truth, whose seen differences are all noise.
[[nodiscard]] inline double expected_tau(std::span<const sequence_sums> candidates, const bootstrap_options& options = {},
                                         std::size_t sequences = 0) {
  double total = 0, count = 0;
  std::vector<std::pair<double, double>> both(candidates.size());
  for (std::size_t r = 0; r + 1 < options.resamples; r += 2) {
    detail::resampled_sequences first{options.seed, r, 0, sequences}, second{options.seed, r + 1, 0, sequences};
    for (std::size_t c = 0; c < candidates.size(); ++c) {
      if (candidates[c].size() < 2) return std::numeric_limits<double>::quiet_NaN();
      both[c] = {first.mean(candidates[c]), second.mean(candidates[c])};
    }
    const double tau = detail::kendall_of(both);
    if (!detail::is_nan(tau)) {
      total += tau;
      count += 1;
    }
  }
  return total / count;
}

}  // namespace klens
