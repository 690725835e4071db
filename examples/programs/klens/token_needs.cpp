#include "token_needs.hpp"

#include <algorithm>
#include <cmath>
#include <klens/stats/bootstrap.hpp>
#include <klens/stats/rank_correlation.hpp>
#include <optional>
#include <vector>

#include "ordered_scores.hpp"

namespace programs {
namespace {

constexpr double stable_order = 0.9;
constexpr std::size_t quick_resamples = 200;  // for means over resamples, which settle sooner than their tails

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

}  // namespace

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
    const auto statistics = [&](klens::list_means means, const klens::list_errors& errors) {
      std::vector<klens::statistic> values;
      for (const auto& group : members)
        for (std::size_t m = 0; m < scanned; ++m)
          values.emplace_back(klens::kendall_tau(ordered.of(means, m, group), ordered.truth(means, errors, group)).value,
                              klens::statistic_kind::correlation);
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

}  // namespace programs
