#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <klens/layer.hpp>
#include <klens/rank/scores.hpp>
#include <klens/stats/interval.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace programs {

/// The shares of the worst candidates whose overlap is reported.
inline constexpr std::array<double, 3> top_shares{0.05, 0.10, 0.20};

/// Needs of more sequences than that are not looked for.
inline constexpr std::size_t most_sequences = std::size_t{1} << 16;

/// What orders the candidates: a metric of the scan on the calibration tokens, or what needs no forward pass: "weight_sqnr",
/// "weight_mse", "size" (the bytes that the scheme saves against fp16).
struct study_metric {
  std::string name;
  std::string unit;
  bool higher_is_worse = true;
  std::vector<double> scores;  ///< of every candidate
};

/// One layer under one scheme, with what it did to the held-out tokens.
struct study_candidate {
  const klens::layer_score* calibrated = nullptr;
  const klens::layer_score* held_out = nullptr;
  klens::estimate delta_ce;  ///< on the held-out tokens, nats/token
  double perplexity = 0;     ///< on them
  double needed = 0;         ///< positions after which the interval of delta_ce would leave 0 out, its value being what it is

  /// Otherwise the perplexity change lies within its own error, and the candidate is a tie.
  [[nodiscard]] bool is_significant() const noexcept { return !delta_ce.may_be_zero(); }
};

/// How a metric's order agrees with perplexity's, over one group of candidates.
struct metric_verdict {
  klens::estimate kendall;
  klens::estimate spearman;
  std::array<klens::estimate, top_shares.size()> top_overlap;
  klens::estimate kl_minus;    ///< tau of kl minus tau of this metric, on the same sequences
  klens::estimate other_text;  ///< tau with the same metric on the held-out tokens
};

/// Candidates that are compared with one another.
struct study_group {
  std::string scheme;             ///< empty: all schemes
  bool significant_only = false;  ///< without those whose perplexity change lies within its own error
  std::vector<std::size_t> members;
  std::size_t ties = 0;
  std::vector<metric_verdict> verdicts;  ///< in the order of study::metrics
  klens::estimate lean;                  ///< tau of delta_ce - kl on the calibration tokens with itself on the held-out ones
};

/// How many tokens an order of the layers takes, by KL and by perplexity, both on the held-out tokens.
struct token_need {
  std::string scheme;
  std::vector<std::size_t> sequences;
  std::vector<double> kl, delta_ce;           ///< tau to expect between two rankings by so many sequences each
  double half_significant = 0;                ///< positions after which half of the perplexity changes would be told from 0
  std::optional<std::size_t> stable;          ///< sequences after which delta_ce's order would have tau 0.9; none: too many
  std::optional<std::size_t> like_one_of_kl;  ///< the same, for the tau that KL has with one sequence
  std::size_t led_by_text = 0;                ///< candidates whose delta_ce differs from their KL beyond its error
};

/// Tau against perplexity by the first calibration sequences alone, over all candidates of a scheme.
struct token_ablation {
  std::string scheme;
  std::size_t sequences = 0;
  std::vector<klens::estimate> kendall;  ///< in the order of study::metrics, as far as they come from the scan
};

struct study_options {
  std::size_t resamples = 1000;
  std::uint64_t seed = 1;
  bool ablations = false;
};

/// With fewer sequences the paired interval has not been shown to hold (benchmarks/stats/tau_coverage): no verdict.
inline constexpr std::size_t least_for_verdict = 8;

/// Do the metrics order candidates as perplexity does?
struct study {
  std::vector<study_metric> metrics;
  std::vector<study_candidate> candidates;
  std::vector<study_group> groups;  ///< all together, significant ones; then by scheme, where there are several
  std::vector<token_need> needs;    ///< by scheme
  std::vector<token_ablation> ablations;
  std::size_t sequences = 0;          ///< of calibration or held-out tokens, whichever are fewer
  std::vector<std::string> left_out;  ///< candidates that say nothing of damage: one sentence each

  [[nodiscard]] std::size_t index_of(const std::string& metric) const;  ///< among metrics, of which it is one
  [[nodiscard]] std::vector<std::string> schemes() const;
  /// All candidates of each scheme, one group a scheme, in the order of schemes().
  [[nodiscard]] std::vector<const study_group*> by_scheme() const;
};

/// Compares two scans of the same candidates and metrics, kl and delta_ce among them: scores on calibration tokens, perplexity
/// on held-out ones. The study points into both. Throws klens::argument_error where either has fewer than two sequences.
[[nodiscard]] study compare_with_perplexity(const klens::scores& calibrated, const klens::scores& held_out,
                                            std::span<const klens::layer> layers, const study_options& options);

}  // namespace programs
