#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/order.hpp>
#include <klens/error.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/metric.hpp>
#include <klens/metric/metrics.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/position_bands.hpp>
#include <klens/site_kind.hpp>
#include <klens/stats/interval.hpp>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// What is known of a metric once a scan is over.
struct metric_info {
  std::string name;
  std::string unit;
  bool higher_is_worse = true;

  damage_scale damage = damage_scale::unknown;  ///< as the metric says; unknown for klens' own too where a file does not tell

  /// A mean as damage: it rises with what is lost, is 0 where nothing is, and adds up over layers.
  /// Throws     argument_error for a metric of which lower is worse and which does not say how (metric.hpp: damage_scale).
  [[nodiscard]] double linear_damage(double mean) const {
    switch (scale()) {
      case damage_scale::mean:
        return mean;
      case damage_scale::one_minus_mean:
        return 1 - mean;
      case damage_scale::noise_over_signal_db:
        return std::pow(10.0, -mean / 10);
      case damage_scale::unknown:
        break;
    }
    if (higher_is_worse) return mean;
    detail::refuse<argument_error>(
        {"metric ", detail::name_text(name),
         " does not say how its mean becomes damage, and lower is worse; give it a member: static constexpr "
         "klens::damage_scale damage = klens::damage_scale::one_minus_mean, or another that fits"});
  }

 private:
  [[nodiscard]] damage_scale scale() const noexcept {
    if (damage != damage_scale::unknown) return damage;
    return name == sqnr::name ? sqnr::damage : name == top1::name ? top1::damage : damage_scale::unknown;
  }
};

/// What a scan's result says of a metric.
[[nodiscard]] inline metric_info info_of(const any_metric& metric) {
  return {metric.name, metric.unit, metric.higher_is_worse, metric.damage};
}

/// One metric's answer for one candidate.
struct metric_score {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

  double mean = unknown;  ///< over all positions that count for the metric
  double low = unknown;   ///< 95 % interval of the mean, from the spread between sequences; NaN with a single sequence
  double high = unknown;
  double worst = unknown;                 ///< the value at the position where it is worst, in the metric's own direction
  std::size_t worst_position = 0;         ///< that position, counted through the whole calibration set
  std::vector<contribution> by_sequence;  ///< sums of values and of weights; mean = finish(sum of values / sum of weights)
};

/// What a score can mean.
enum class outcome {
  measured,           ///< the ordinary case
  weights_unchanged,  ///< the scheme keeps these weights exactly as they are: no damage, and no forward was spent
  output_unchanged,   ///< the weights changed and not one logit did: the forward does not use them. NOT a sign of robustness
  not_measured,       ///< the scan ended before its first batch
  failed,             ///< it cannot be measured: the scheme cannot hold the weights, or the logits are not finite. See reason
};

/// How a candidate's scores were come by.
enum class score_source {
  exact,  ///< the model was run with the candidate applied
  local   ///< predicted: what it does to its own stage's output, times the gain of what follows
};

/// One candidate, a layer under a scheme, with its scores.
struct layer_score {
  std::string layer;
  std::string kind;
  site_kind site = site_kind::weights;
  std::string scheme;
  std::string note;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::uint64_t bytes = 0;  ///< of the layer under the scheme, exactly; of what comes into being at run time, for one sequence
  std::size_t positions = 0;  ///< compared
  outcome result = outcome::not_measured;
  std::string reason;               ///< why it failed; empty unless result is outcome::failed
  standing place = standing::open;  ///< whether it left the scan early, and why
  score_source source = score_source::exact;
  double local_energy =
      metric_score::unknown;            ///< mean of |change|^2 / |residual|^2 at its stage's exit, where it was measured
  double gain = metric_score::unknown;  ///< kl / local_energy, measured or predicted
  double weight_sqnr_db = metric_score::unknown;  ///< of the weights themselves: what needs no forward pass
  std::vector<metric_score> metrics;              ///< in the order of scores::metrics
  std::vector<position_band> by_position;         ///< of the first metric, where rank_options::by_position asks for it

  /// Whether its scores say how much the layer suffers. False where nothing was measured or not one logit moved: such a
  /// candidate is not robust, it is unknown.
  [[nodiscard]] bool says_damage() const noexcept {
    return result == outcome::measured || result == outcome::weights_unchanged;
  }
};

/// The untouched model on the same tokens. Empty where the scan was given no tokens.
struct reference_score {
  std::vector<contribution> nll_by_sequence;  ///< sum of -ln P(next token), and how many

  /// Mean negative log likelihood of the next token, in nats; NaN where there is none. Of all sequences, or of the first ones.
  [[nodiscard]] double nll() const noexcept { return mean_of(nll_by_sequence); }
  [[nodiscard]] double nll(std::size_t first_sequences) const {
    return mean_of(sequence_sums{nll_by_sequence}.first(std::min(first_sequences, nll_by_sequence.size())));
  }
};

/// What a scan cost. One forward is the untouched model once over the whole calibration set; resumed passes count by their
/// share.
struct scan_cost {
  double forwards = 0;
  double seconds = 0;
};

/// The model with every layer stored under one scheme: what a scan from_quantized starts from.
struct whole_score {
  std::string scheme;
  std::vector<metric_score> metrics;  ///< in the order of scores::metrics
};

/// The result of a scan: every candidate with its scores, in the order in which they were scanned.
struct scores {
  std::vector<metric_info> metrics;
  std::vector<layer_score> candidates;
  std::vector<whole_score> quantized;  ///< one a scheme where the scan went from_quantized; then candidates' scores are savings
  std::vector<metric_score>
      noise;  ///< the untouched model against itself, run again (with embeddings changed in their last bit where the forward
              ///< shows its residual stream), in the order of metrics: scores no worse than that mean nothing. Empty where it
              ///< was not measured
  std::vector<std::string> skipped;             ///< candidates that cannot be: one sentence each
  std::vector<std::string> remarks;             ///< what a reader must know before relying on the scores: one sentence each
  double expected_tau = metric_score::unknown;  ///< methods local and refine: Kendall's tau with the exhaustive ranking of each
                                                ///< scheme, as their own model of what they do not know lets expect it
  reference_score reference;
  scan_cost cost;
  std::size_t sequences = 0;  ///< seen by at least one candidate
  std::size_t positions = 0;  ///< of these, the ones that count (rank_options::counted); all where there is no such mask
  std::size_t tokens = 0;     ///< that the forward ran over: positions, and those that do not count
  bool complete = false;      ///< false: the scan was stopped; what is here is valid as far as it goes

  /// The schemes of the candidates, in the order in which they first come.
  [[nodiscard]] std::vector<std::string> schemes() const {
    std::vector<std::string> known;
    for (const layer_score& each : candidates)
      if (std::find(known.begin(), known.end(), each.scheme) == known.end()) known.push_back(each.scheme);
    return known;
  }

  /// Where a metric stands in every candidate's list. Throws argument_error.
  [[nodiscard]] std::size_t index_of(std::string_view metric_name) const {
    std::string known;
    for (std::size_t m = 0; m < metrics.size(); ++m) {
      if (metrics[m].name == metric_name) return m;
      known += (m ? ", " : "") + metrics[m].name;
    }
    detail::refuse<argument_error>({"metric ", detail::name_text(metric_name), " was not measured; measured were ", known});
  }

  /// The candidates worst first, by the metric's own direction; equal ones stay in scan order. Those that say nothing about
  /// damage (output_unchanged, not_measured, failed, a mean that is NaN) come last.
  [[nodiscard]] std::vector<const layer_score*> ranked(std::string_view metric_name) const& {
    const std::size_t m = index_of(metric_name);
    const auto says_nothing = [&](std::size_t c) {
      return !candidates[c].says_damage() || detail::is_nan(candidates[c].metrics[m].mean);
    };
    const auto worse = [&](std::size_t a, std::size_t b) {
      if (says_nothing(a) || says_nothing(b)) return !says_nothing(a) && says_nothing(b);
      const double left = candidates[a].metrics[m].mean, right = candidates[b].metrics[m].mean;
      return metrics[m].higher_is_worse ? left > right : left < right;
    };
    std::vector<const layer_score*> worst_first;
    for (const std::size_t c : detail::order_of(candidates.size(), worse)) worst_first.push_back(&candidates[c]);
    return worst_first;
  }

  std::vector<const layer_score*> ranked(std::string_view) const&& = delete;  // the candidates would be gone

  /// exp(mean negative log likelihood) of a candidate on the tokens that it was measured on; NaN unless delta_ce was measured.
  [[nodiscard]] double perplexity(const layer_score& candidate) const {
    for (std::size_t m = 0; m < metrics.size(); ++m)
      if (metrics[m].name == "delta_ce")
        return std::exp(reference.nll(candidate.metrics[m].by_sequence.size()) + candidate.metrics[m].mean);
    return metric_score::unknown;
  }

  /// The candidate of that layer and scheme, or nullptr.
  [[nodiscard]] const layer_score* find(std::string_view layer_name, std::string_view scheme_name) const& noexcept {
    for (const layer_score& each : candidates)
      if (each.layer == layer_name && each.scheme == scheme_name) return &each;
    return nullptr;
  }
  const layer_score* find(std::string_view, std::string_view) const&& = delete;  // the candidate would be gone: keep the scores
};

namespace detail {

/// Whether two scans measured the same metrics, in the same order.
[[nodiscard]] inline bool same_metrics(const scores& a, const scores& b) noexcept {
  bool same = a.metrics.size() == b.metrics.size();
  for (std::size_t m = 0; same && m < a.metrics.size(); ++m) same = a.metrics[m].name == b.metrics[m].name;
  return same;
}

}  // namespace detail
}  // namespace klens
