#include "validate_study.hpp"

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <klens/stats/bootstrap.hpp>
#include <klens/stats/rank_correlation.hpp>
#include <limits>
#include <map>
#include <utility>

#include "ordered_scores.hpp"
#include "rank_report.hpp"
#include "token_needs.hpp"

namespace programs {
namespace {

std::string why_left_out(const klens::layer_score& candidate) {
  if (candidate.result == klens::outcome::failed) return "it was not scored: " + candidate.reason;
  if (candidate.result == klens::outcome::not_measured) return "it was not measured";
  return "its weights changed and not one logit did";
}

std::vector<study_candidate> paired_candidates(const klens::scores& calibrated, const klens::scores& held_out,
                                               std::vector<std::string>& left_out) {
  const std::size_t delta_ce = held_out.index_of("delta_ce");
  std::vector<study_candidate> paired;
  for (const klens::layer_score& each : calibrated.candidates) {
    const klens::layer_score* other = held_out.find(each.layer, each.scheme);
    if (!each.says_damage() || other == nullptr || !other->says_damage()) {
      left_out.push_back(each.layer + " as " + each.scheme + ": " +
                         why_left_out(other == nullptr || !each.says_damage() ? each : *other));
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
      study_group& group = groups.emplace_back(study_group{scheme, significant_only, {}, 0, {}, {}});
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
  using kind = klens::statistic_kind;
  const auto statistics = [&](klens::list_means means, const klens::list_errors& errors) {
    std::vector<klens::statistic> values;
    for (const study_group& group : all.groups) {
      const std::vector<double> truth = ordered.truth(means, errors, group.members);
      const double tau_of_kl = klens::kendall_tau(ordered.of(means, kl, group.members), truth).value;
      for (std::size_t m = 0; m < all.metrics.size(); ++m) {
        const std::vector<double> scores = ordered.of(means, m, group.members);
        const double tau = m == kl ? tau_of_kl : klens::kendall_tau(scores, truth).value;
        values.emplace_back(tau, kind::correlation);
        values.emplace_back(klens::spearman_rho(scores, truth).value, kind::correlation);
        for (const double share : top_shares) values.emplace_back(overlap_of(scores, truth, share), kind::share);
        values.emplace_back(tau_of_kl - tau, kind::difference);
        values.emplace_back(klens::kendall_tau(scores, ordered.on_other_text(means, m, group.members)).value,
                            kind::correlation);
      }
      values.emplace_back(
          klens::kendall_tau(ordered.lean(means, false, group.members), ordered.lean(means, true, group.members)).value,
          kind::correlation);
    }
    return values;
  };
  const std::vector<klens::estimate> found =
      klens::bootstrap_each(ordered.lists(), statistics, {options.resamples, options.seed, 0.95});
  auto next = found.begin();
  for (study_group& group : all.groups) {
    for (std::size_t m = 0; m < all.metrics.size(); ++m) {
      metric_verdict& verdict = group.verdicts.emplace_back();
      verdict.kendall = *next++;
      verdict.spearman = *next++;
      for (klens::estimate& each : verdict.top_overlap) each = *next++;
      verdict.kl_minus = without_rounding(*next++);
      verdict.other_text = *next++;
    }
    group.lean = *next++;
  }
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

std::vector<const study_group*> study::by_scheme() const {
  const bool one_scheme = schemes().size() == 1;  // then its group is that of all
  std::vector<const study_group*> found;
  for (const study_group& each : groups)
    if (!each.significant_only && (one_scheme || !each.scheme.empty())) found.push_back(&each);
  return found;
}

study compare_with_perplexity(const klens::scores& calibrated, const klens::scores& held_out,
                              std::span<const klens::layer> layers, const study_options& options) {
  if (calibrated.sequences < 2 || held_out.sequences < 2)
    throw klens::argument_error{"one sequence tells nothing of the spread; use at least 2 for calibration and 2 held out"};
  study all;
  all.candidates = paired_candidates(calibrated, held_out, all.left_out);
  if (all.candidates.empty()) throw klens::argument_error{"no candidate was measured; there is nothing to compare"};
  all.sequences = std::min(calibrated.sequences, held_out.sequences);
  all.metrics = all_metrics(calibrated, all.candidates, layers);
  all.groups = groups_of(all);
  const std::size_t scanned = calibrated.metrics.size();
  judge(all, scanned, options);
  for (const std::string& scheme : all.schemes()) all.needs.push_back(need_of(all, scheme, options));
  if (options.ablations) all.ablations = ablation_of_tokens(all, scanned, options);
  return all;
}

}  // namespace programs
