#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/random.hpp>
#include <klens/error.hpp>
#include <klens/stats/interval.hpp>
#include <klens/stats/rank_correlation.hpp>
#include <klens/stats/statistic.hpp>
#include <klens/stats/student_t.hpp>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
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
    draw(n);
    contribution total{0, 0};
    for (std::size_t s = 0; s < n; ++s)
      if (counts_[s] > 0) {
        total.value += counts_[s] * by_sequence[s].value;
        total.weight += counts_[s] * by_sequence[s].weight;
      }
    return total.value / total.weight;
  }

  /// The standard error of that mean, from the spread of the sequences drawn; NaN with fewer than two.
  [[nodiscard]] double standard_error(sequence_sums by_sequence, double mean) {
    const std::size_t n = by_sequence.size();
    if (n < 2) return std::numeric_limits<double>::quiet_NaN();
    draw(n);
    double squares = 0, weight = 0, draws = 0;
    for (std::size_t s = 0; s < n; ++s) {
      const double apart = by_sequence[s].value - mean * by_sequence[s].weight;
      squares += counts_[s] * apart * apart;
      weight += counts_[s] * by_sequence[s].weight;
      draws += counts_[s];
    }
    return std::sqrt(squares * draws / static_cast<double>(n - 1)) / weight;
  }

 private:
  void draw(std::size_t n) {
    const std::size_t draws = fresh_ == 0 ? n - 1 : std::max<std::size_t>(1, (fresh_ * (n - 1) + n / 2) / n);
    while (draws_.size() < draws) draws_.push_back(random_.uniform());
    if (counts_.size() != n) {
      counts_.assign(n, 0);
      for (std::size_t i = 0; i < draws; ++i) counts_[static_cast<std::size_t>(draws_[i] * static_cast<double>(n))] += 1;
    }
  }

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

/// What a resample makes of the lists: means[i][c] belongs to candidate c of the i-th one.
using list_means = std::span<const std::vector<double>>;
/// The standard error of a mean there, computed when it is asked for: errors(i, c).
using list_errors = std::function<double(std::size_t list, std::size_t candidate)>;

namespace detail {

[[nodiscard]] inline interval percentile_interval(double found, std::vector<double>& again, double t) {
  std::sort(again.begin(), again.end());
  const double tail = student_t_tail(t, unbounded);
  const double shift = found - quantile_of(again, 0.5);
  return {quantile_of(again, tail) + shift, quantile_of(again, 1 - tail) + shift};
}

}  // namespace detail

/// Statistics of lists of scores, with an interval over sequences: tau between a metric and the perplexity increase, the
/// difference of two such taus, for any number of metrics from the same draws.
///   statistics(list_means means) or statistics(list_means means, const list_errors& standard_errors), which returns a
///   std::vector<statistic> (or of double, all of them means), always as many. What depends on noise, such as which candidates
///   are ties, is to be decided from these arguments: then the interval knows that it may turn out otherwise.
/// The interval is where a statistic would lie on other sequences, as many; its middle is the value found (resampling adds noise
/// to what is noisy already, which pulls every tau towards 0; the spread is what can be trusted). For a mean it is the percentile
/// interval with the tails that Student's t has at so few sequences; for rank statistics detail::rank_interval, which stays within
/// their limits.
/// Edges      no range where a candidate has fewer than two sequences, or the statistic is a NaN.
/// Throws     argument_error for a confidence outside 0 .. 1 and a token set that is no index into the lists; shape_error for
///            statistics that give a varying number of values.
/// Precision  95 % intervals of tau, and of the difference of two, hold 94 to 100 % with 8 to 64 sequences and 20 to 120 candidates,
///            ties among them (benchmarks/stats/tau_coverage); at 4 sequences 98 %.
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
  const auto measured = [&](const auto& mean, const auto& error) {
    for (std::size_t i = 0; i < lists.size(); ++i) {
      means[i].clear();
      for (const sequence_sums& each : lists[i].candidates) means[i].push_back(mean(lists[i].token_set, each));
    }
    const auto values = [&] {
      if constexpr (std::is_invocable_v<const Statistics&, list_means, const list_errors&>)
        return statistics(list_means{means}, list_errors{[&](std::size_t i, std::size_t c) {
                            return error(lists[i].token_set, lists[i].candidates[c], means[i][c]);
                          }});
      else
        return statistics(list_means{means});
    }();
    return std::vector<statistic>(values.begin(), values.end());
  };
  std::size_t fewest = std::numeric_limits<std::size_t>::max();
  const std::vector<statistic> at_first = measured(
      [&](std::size_t, sequence_sums sums) {
        fewest = std::min(fewest, sums.size());
        return mean_of(sums);
      },
      [](std::size_t, sequence_sums sums, double) { return standard_error(sums); });
  std::vector<estimate> found;
  for (const statistic& each : at_first) found.push_back({each.value, std::nullopt});
  if (fewest < 2) return found;

  std::vector<std::vector<double>> again(found.size());
  for (std::size_t r = 0; r < options.resamples; ++r) {
    std::vector<detail::resampled_sequences> sets;
    const auto set_of = [&](std::size_t set) -> detail::resampled_sequences& {
      while (sets.size() <= set) sets.emplace_back(options.seed, r, sets.size());
      return sets[set];
    };
    const std::vector<statistic> values =
        measured([&](std::size_t set, sequence_sums sums) { return set_of(set).mean(sums); },
                 [&](std::size_t set, sequence_sums sums, double mean) { return set_of(set).standard_error(sums, mean); });
    if (values.size() != found.size())
      throw shape_error{"bootstrap: statistics gave " + std::to_string(found.size()) + " values, then " +
                        std::to_string(values.size()) + "; it must always give as many"};
    for (std::size_t i = 0; i < values.size(); ++i)
      if (!detail::is_nan(values[i].value)) again[i].push_back(values[i].value);
  }
  const double t = student_t_quantile((1 - options.confidence) / 2, static_cast<double>(fewest) - 1);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (detail::is_nan(found[i].value) || again[i].empty()) continue;
    found[i].range = at_first[i].kind == statistic_kind::mean ? detail::percentile_interval(found[i].value, again[i], t)
                                                              : detail::rank_interval(at_first[i], again[i], t);
  }
  return found;
}

/// The same for a single one: of(list_means means) -> statistic or double.
template <class Statistic>
[[nodiscard]] estimate bootstrap(std::span<const score_list> lists, const Statistic& of,
                                 const bootstrap_options& options = {}) {
  const auto alone = [&](list_means means) { return std::vector<statistic>{of(means)}; };
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
