#include "validate_study.hpp"

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/stats/bootstrap.hpp>
#include <klens/stats/rank_correlation.hpp>
#include <limits>
#include <map>
#include <utility>

#include "rank_report.hpp"

namespace programs {
namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
constexpr double stable_order = 0.9;
constexpr std::size_t quick_resamples = 200;  // for means over resamples, which settle sooner than their tails

const std::vector<klens::contribution>& sums_of(const klens::layer_score& of, std::size_t metric) {
  return of.metrics[metric].by_sequence;
}

std::vector<study_candidate> paired_candidates(const klens::scores& calibrated, const klens::scores& held_out,
                                               std::vector<std::string>& left_out) {
  const std::size_t delta_ce = held_out.index_of("delta_ce");
  std::vector<study_candidate> paired;
  for (const klens::layer_score& each : calibrated.candidates) {
    const klens::layer_score* other = held_out.find(each.layer, each.scheme);
    if (!says_something(each) || other == nullptr || !says_something(*other)) {
      left_out.push_back(each.layer + " as " + each.scheme + ": its weights changed and not one logit did");
      continue;
    }
    const klens::metric_score& score = other->metrics[delta_ce];
    study_candidate added{&each, other, {score.mean, klens::interval{score.low, score.high}}, held_out.perplexity(*other), 0};
    added.needed = static_cast<double>(other->positions) * std::pow((score.high - score.low) / 2 / score.mean, 2);
    paired.push_back(added);
  }
  return paired;
}

std::vector<study_metric> all_metrics(const klens::scores& calibrated, const std::vector<study_candidate>& compared,
                                      std::span<const klens::layer> layers) {
  std::vector<study_metric> metrics;
  for (std::size_t m = 0; m < calibrated.metrics.size(); ++m) {
    const klens::metric_info& info = calibrated.metrics[m];
    study_metric& added = metrics.emplace_back(study_metric{info.name, info.unit, info.higher_is_worse, {}});
    for (const study_candidate& each : compared) added.scores.push_back(each.calibrated->metrics[m].mean);
  }
  std::map<std::string, double> mean_squares;
  for (const klens::layer& each : layers)
    mean_squares[each.name] = each.load().cast<double>().squaredNorm() / static_cast<double>(each.rows() * each.columns());
  study_metric sqnr{"weight_sqnr", "dB", false, {}}, mse{"weight_mse", "squared weights", true, {}},
      size{"size", "bytes saved", true, {}};
  for (const study_candidate& each : compared) {
    const klens::layer_score& score = *each.calibrated;
    sqnr.scores.push_back(score.weight_sqnr_db);
    mse.scores.push_back(mean_squares.at(score.layer) * std::pow(10, -score.weight_sqnr_db / 10));
    size.scores.push_back(2 * static_cast<double>(score.rows * score.columns) - static_cast<double>(score.bytes));
  }
  for (study_metric* each : {&sqnr, &mse, &size}) metrics.push_back(std::move(*each));
  return metrics;
}

std::vector<study_group> groups_of(const study& all) {
  std::vector<std::string> schemes = all.schemes();
  if (schemes.size() == 1) schemes.clear();
  schemes.insert(schemes.begin(), "");
  std::vector<study_group> groups;
  for (const std::string& scheme : schemes)
    for (const bool significant_only : {false, true}) {
      study_group& group = groups.emplace_back(study_group{scheme, significant_only, {}, 0, {}});
      for (std::size_t c = 0; c < all.candidates.size(); ++c) {
        const study_candidate& each = all.candidates[c];
        if (!scheme.empty() && each.calibrated->scheme != scheme) continue;
        if (significant_only && !each.is_significant()) continue;
        group.members.push_back(c);
        group.ties += each.is_significant() ? 0 : 1;
      }
    }
  return groups;
}

/// Scores of all candidates, turned so that higher is worse: what a resample makes of the two scans.
class ordered_scores {
 public:
  /// Calibration sums of every metric of the scan (the first sequences of them), then those of the held-out tokens.
  ordered_scores(const study& all, std::size_t scanned, std::size_t calibration_sequences) : all_{all}, scanned_{scanned} {
    for (const bool held_out : {false, true})
      for (std::size_t m = 0; m < scanned; ++m) {
        klens::score_list& list = lists_.emplace_back();
        list.token_set = held_out ? 1 : 0;
        for (const study_candidate& each : all.candidates) {
          const klens::sequence_sums sums = sums_of(held_out ? *each.held_out : *each.calibrated, m);
          list.candidates.push_back(held_out ? sums : sums.first(std::min(sums.size(), calibration_sequences)));
        }
      }
    for (std::size_t m = 0; m < scanned; ++m)
      signs_.push_back(klens::any_metric::parse(all.metrics[m].name).higher_mean_is_worse() ? 1 : -1);
  }

  [[nodiscard]] std::span<const klens::score_list> lists() const noexcept { return lists_; }

  using means = std::span<const std::vector<double>>;

  [[nodiscard]] std::vector<double> of(means from, std::size_t metric, const std::vector<std::size_t>& members) const {
    std::vector<double> scores;
    const study_metric& known = all_.metrics[metric];
    for (const std::size_t c : members)
      scores.push_back(metric < scanned_ ? signs_[metric] * from[metric][c]
                                         : (known.higher_is_worse ? 1 : -1) * known.scores[c]);
    return scores;
  }
  [[nodiscard]] std::vector<double> on_other_text(means from, std::size_t metric,
                                                  const std::vector<std::size_t>& members) const {
    std::vector<double> scores;
    for (const std::size_t c : members)
      scores.push_back(metric < scanned_ ? signs_[metric] * from[scanned_ + metric][c] : nothing);
    return scores;
  }
  /// The increase in cross entropy; 0 for all whose increase may be none, which makes them ties.
  [[nodiscard]] std::vector<double> truth(means from, const std::vector<std::size_t>& members) const {
    std::vector<double> increases;
    const std::size_t delta_ce = scanned_ + all_.index_of("delta_ce");
    for (const std::size_t c : members) increases.push_back(all_.candidates[c].is_significant() ? from[delta_ce][c] : 0);
    return increases;
  }

 private:
  const study& all_;
  std::size_t scanned_;
  std::vector<klens::score_list> lists_;
  std::vector<double> signs_;
};

double overlap_of(const std::vector<double>& scores, const std::vector<double>& truth, double share) {
  const auto count = static_cast<std::size_t>(std::lround(share * static_cast<double>(scores.size())));
  return klens::top_overlap(scores, truth, std::max<std::size_t>(1, count)).value;
}

// Taus are ratios: their difference may miss 0 by a rounding error, on which no verdict should rest.
klens::estimate without_rounding(klens::estimate difference) {
  constexpr double rounding = 1e-12;
  const auto settled = [](double value) { return std::abs(value) < rounding ? 0 : value; };
  if (difference.range) difference.range = klens::interval{settled(difference.range->low), settled(difference.range->high)};
  difference.value = settled(difference.value);
  return difference;
}

// Fills in the verdicts of every group, all from the same resamples.
void judge(study& all, std::size_t scanned, const study_options& options) {
  const ordered_scores ordered{all, scanned, std::numeric_limits<std::size_t>::max()};
  const std::size_t kl = all.index_of("kl");
  const auto statistics = [&](ordered_scores::means means) {
    std::vector<double> values;
    for (const study_group& group : all.groups) {
      const std::vector<double> truth = ordered.truth(means, group.members);
      const double tau_of_kl = klens::kendall_tau(ordered.of(means, kl, group.members), truth).value;
      for (std::size_t m = 0; m < all.metrics.size(); ++m) {
        const std::vector<double> scores = ordered.of(means, m, group.members);
        const double tau = m == kl ? tau_of_kl : klens::kendall_tau(scores, truth).value;
        values.push_back(tau);
        values.push_back(klens::spearman_rho(scores, truth).value);
        for (const double share : top_shares) values.push_back(overlap_of(scores, truth, share));
        values.push_back(tau_of_kl - tau);
        values.push_back(klens::kendall_tau(scores, ordered.on_other_text(means, m, group.members)).value);
      }
    }
    return values;
  };
  const std::vector<klens::estimate> found =
      klens::bootstrap_each(ordered.lists(), statistics, {options.resamples, options.seed, 0.95});
  auto next = found.begin();
  for (study_group& group : all.groups)
    for (std::size_t m = 0; m < all.metrics.size(); ++m) {
      metric_verdict& verdict = group.verdicts.emplace_back();
      verdict.kendall = *next++;
      verdict.spearman = *next++;
      for (klens::estimate& each : verdict.top_overlap) each = *next++;
      verdict.kl_minus = without_rounding(*next++);
      verdict.other_text = *next++;
    }
}

std::vector<std::size_t> members_of(const study& all, const std::string& scheme) {
  std::vector<std::size_t> members;
  for (std::size_t c = 0; c < all.candidates.size(); ++c)
    if (all.candidates[c].calibrated->scheme == scheme) members.push_back(c);
  return members;
}

// Powers of two below `count`, and it.
std::vector<std::size_t> doubling_to(std::size_t count) {
  std::vector<std::size_t> steps;
  for (std::size_t step = 1; step < count; step *= 2) steps.push_back(step);
  steps.push_back(count);
  return steps;
}

// How many sequences give an order of that stability, to a twentieth; none where it takes more than can be told.
std::optional<std::size_t> sequences_for(double tau, const std::vector<klens::sequence_sums>& sums,
                                         const klens::bootstrap_options& options) {
  std::size_t enough = 1;
  while (!(klens::expected_tau(sums, options, enough) >= tau)) {
    if (enough >= most_sequences) return std::nullopt;
    enough *= 2;
  }
  for (std::size_t few = enough / 2; enough - few > 1 && enough - few > enough / 20;) {
    const std::size_t middle = few + (enough - few) / 2;
    (klens::expected_tau(sums, options, middle) >= tau ? enough : few) = middle;
  }
  return enough;
}

token_need need_of(const study& all, const std::string& scheme, const study_options& options) {
  const std::size_t kl = all.index_of("kl"), delta_ce = all.index_of("delta_ce");
  const std::vector<std::size_t> members = members_of(all, scheme);
  std::vector<klens::sequence_sums> of_kl, of_delta_ce;
  std::vector<double> needed;
  token_need need;
  need.scheme = scheme;
  for (const std::size_t c : members) {
    const study_candidate& each = all.candidates[c];
    of_kl.emplace_back(sums_of(*each.held_out, kl));
    of_delta_ce.emplace_back(sums_of(*each.held_out, delta_ce));
    needed.push_back(std::isnan(each.needed) ? 0 : each.needed);  // 0 / 0: weights that the scheme keeps
    need.led_by_text += klens::difference_of(of_delta_ce.back(), of_kl.back()).may_be_zero() ? 0 : 1;
  }
  std::ranges::sort(needed);
  need.half_significant = needed[(needed.size() - 1) / 2];
  const klens::bootstrap_options quick{quick_resamples, options.seed, 0.95};
  need.sequences = doubling_to(of_kl.front().size());
  for (const std::size_t count : need.sequences) {
    need.kl.push_back(klens::expected_tau(of_kl, quick, count));
    need.delta_ce.push_back(klens::expected_tau(of_delta_ce, quick, count));
  }
  need.stable = sequences_for(stable_order, of_delta_ce, quick);
  need.like_one_of_kl = sequences_for(need.kl.front(), of_delta_ce, quick);
  return need;
}

std::vector<token_ablation> ablation_of_tokens(const study& all, std::size_t scanned, const study_options& options) {
  std::vector<token_ablation> ablations;
  std::vector<std::vector<std::size_t>> members;
  for (const std::string& scheme : all.schemes()) members.push_back(members_of(all, scheme));
  for (const std::size_t count : doubling_to(sums_of(*all.candidates.front().calibrated, 0).size())) {
    const ordered_scores ordered{all, scanned, count};
    const auto statistics = [&](ordered_scores::means means) {
      std::vector<double> values;
      for (const auto& group : members)
        for (std::size_t m = 0; m < scanned; ++m)
          values.push_back(klens::kendall_tau(ordered.of(means, m, group), ordered.truth(means, group)).value);
      return values;
    };
    const auto found = klens::bootstrap_each(ordered.lists(), statistics, {quick_resamples, options.seed, 0.95});
    auto next = found.begin();
    for (const std::string& scheme : all.schemes()) {
      ablations.push_back({scheme, count, {next, next + static_cast<std::ptrdiff_t>(scanned)}});
      next += static_cast<std::ptrdiff_t>(scanned);
    }
  }
  return ablations;
}

}  // namespace

std::size_t study::index_of(const std::string& metric) const {
  return static_cast<std::size_t>(std::ranges::find(metrics, metric, &study_metric::name) - metrics.begin());
}

std::vector<std::string> study::schemes() const {
  std::vector<std::string> known;
  for (const study_candidate& each : candidates)
    if (std::ranges::find(known, each.calibrated->scheme) == known.end()) known.push_back(each.calibrated->scheme);
  return known;
}

study compare_with_perplexity(const klens::scores& calibrated, const klens::scores& held_out,
                              std::span<const klens::layer> layers, const study_options& options) {
  if (calibrated.sequences < 2 || held_out.sequences < 2)
    throw klens::argument_error{"one sequence tells nothing of the spread; use at least 2 for calibration and 2 held out"};
  study all;
  all.candidates = paired_candidates(calibrated, held_out, all.left_out);
  if (all.candidates.empty()) throw klens::argument_error{"no candidate was measured; there is nothing to compare"};
  all.metrics = all_metrics(calibrated, all.candidates, layers);
  all.groups = groups_of(all);
  const std::size_t scanned = calibrated.metrics.size();
  judge(all, scanned, options);
  for (const std::string& scheme : all.schemes()) all.needs.push_back(need_of(all, scheme, options));
  if (options.ablations) all.ablations = ablation_of_tokens(all, scanned, options);
  return all;
}

}  // namespace programs
