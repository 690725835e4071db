#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/rank/look.hpp>
#include <klens/rank/scan/paired_comparison.hpp>
#include <klens/rank/scan/settle_seats.hpp>
#include <klens/stats/student_t.hpp>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Every candidate sees every sequence.
struct exhaustive {
  [[nodiscard]] std::vector<standing> operator()(const look& at) const { return {at.standings.begin(), at.standings.end()}; }
  [[nodiscard]] std::string name() const { return "exhaustive"; }
};

/// Which are the `count` worst? A candidate leaves as soon as its side is settled: the chance that the whole calibration set
/// would put it on the other side is at most 1 - confidence, over all looks together.
/// Precision  on a small trained model (57 layers, 32 sequences, 99 %) no more than 0.1 % of the layers left on the wrong side.
///            The t tests assume roughly normal sequence means: of candidates nearly all tied, with noise that differs among
///            them by a factor of ten and more, 2 % did (docs/theory.md).
/// Source     paired t tests against the boundary, with variances as in stats/shrunken_variance.hpp and the error spent over looks
///            as in error_to_spend.
struct top {
  std::size_t count = 10;

  [[nodiscard]] std::vector<standing> operator()(const look& at) const { return detail::settle_seats(at, count); }
  [[nodiscard]] doubts doubts_of(const damage_draws& of, double confidence) const {
    return detail::doubts_of_seats(of, count, confidence);
  }
  [[nodiscard]] std::string name() const { return detail::rule_text("top", static_cast<double>(count)); }
};

/// Which are the worst `share` of the candidates, to the nearest number? As top.
struct split {
  double share = 0.5;

  [[nodiscard]] std::vector<standing> operator()(const look& at) const {
    return detail::settle_seats(at, seats(at.candidates.size()));
  }
  [[nodiscard]] doubts doubts_of(const damage_draws& of, double confidence) const {
    return detail::doubts_of_seats(of, seats(of.estimates.size()), confidence);
  }
  [[nodiscard]] std::size_t seats(std::size_t candidates) const {
    return static_cast<std::size_t>(std::llround(share * static_cast<double>(candidates)));
  }
  [[nodiscard]] std::string name() const { return detail::rule_text("split", share); }
};

/// Is the order as good as that of the whole calibration set, up to Kendall's tau? All candidates leave together, so that they
/// rest on the same sequences: when tau, expected from the chances that pairs are the wrong way round, is at least `tau`, by as
/// many standard deviations as the confidence asks for. The chances are those that hold given what was seen, so looking often
/// does not bend them.
struct order {
  double tau = 0.95;

  [[nodiscard]] std::vector<standing> operator()(const look& at) const {
    if (at.sequences < 2) return exhaustive{}(at);
    const detail::paired_comparison open{at};
    std::vector<detail::paired_comparison::difference> apart;
    for (std::size_t i = 0; i < open.size(); ++i)
      for (std::size_t j = i + 1; j < open.size(); ++j) apart.push_back(open(i, j));
    double discordant = 0, variance = 0;
    for (const double chance : open.chances_of_reversal(apart, false)) {
      discordant += chance;
      variance += chance * (1 - chance);
    }
    const double beyond = student_t_quantile(std::min(1 - at.confidence, 0.5), unbounded) * std::sqrt(variance);
    const double allowed = (1 - tau) / 2 * static_cast<double>(apart.size());
    return discordant + beyond <= allowed ? detail::close_all(at, standing::ordered) : exhaustive{}(at);
  }
  /// Of each candidate: the share of the others that a draw puts on its other side. tau is expected, whatever the confidence.
  [[nodiscard]] doubts doubts_of(const damage_draws& of, double) const {
    const std::size_t n = of.estimates.size();
    std::vector<double> chances(n, 0);
    const double each = 1 / (static_cast<double>(of.draws.size()) * std::max(static_cast<double>(n) - 1, 1.));
    for (const std::vector<double>& draw : of.draws)
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < i; ++j)
          if ((draw[i] < draw[j]) != (of.estimates[i] < of.estimates[j])) {
            chances[i] += each;
            chances[j] += each;
          }
    return {chances, (1 - tau) / 2};
  }
  [[nodiscard]] std::string name() const { return detail::rule_text("order", tau); }
};

/// As many sequences as can be had for so many forwards, or seconds: all candidates stop before a batch that would exceed it,
/// judged by the cost of the sequences until now. The first batch is always taken.
struct budget {
  double forwards = unbounded;
  double seconds = unbounded;

  [[nodiscard]] std::vector<standing> operator()(const look& at) const {
    const double grown = 2 - static_cast<double>(at.sequences_before) / static_cast<double>(at.sequences);
    const bool spent = at.forwards * grown > forwards || at.seconds * grown > seconds;
    return spent ? detail::close_all(at, standing::stopped) : exhaustive{}(at);
  }
  [[nodiscard]] std::string name() const {
    return forwards < unbounded ? detail::rule_text("budget", forwards) : detail::rule_text("budget", seconds, "s");
  }
};

}  // namespace klens
