#include "ranked_scheme.hpp"

#include <algorithm>
#include <cmath>
#include <klens/rank/ranking.hpp>
#include <limits>
#include <map>

#include "terminal.hpp"

namespace programs {
namespace {

// Which kind of layer the damage sits in: sums over layers, for damage is nearly additive.
std::vector<kind_share> shares_of(const std::vector<ranked_candidate>& candidates) {
  std::map<std::string, kind_share> kinds;
  double all = 0;
  for (const ranked_candidate& each : candidates) {
    if (std::isnan(each.damage)) continue;
    kind_share& of = kinds[each.score->kind];
    of.kind = each.score->kind;
    of.layers += 1;
    of.share += each.damage;
    all += each.damage;
  }
  if (!(all > 0) || !std::isfinite(all)) return {};
  std::vector<kind_share> shares;
  for (auto& [name, of] : kinds) {
    of.share /= all;
    shares.push_back(of);
  }
  std::ranges::stable_sort(shares, std::ranges::greater{}, &kind_share::share);
  return shares;
}

}  // namespace

std::string ranked_scheme::interval_text(const ranked_candidate& of) const {
  const klens::metric_score& score = of.score->metrics[metric];
  return std::isnan(of.damage) || std::isnan(score.low) ? "" : text("%.3g .. %.3g", score.low, score.high);
}

ranked_scheme ranked_scheme_of(const klens::scores& all, const std::string& metric, const std::string& scheme) {
  ranked_scheme of;
  of.scheme = scheme;
  of.metric = all.index_of(metric);
  const klens::ranking ranking = klens::ranking_of(all, metric, scheme);
  of.stability = ranking.stability;
  for (std::size_t i = 0, first = 0; i < ranking.places.size(); ++i) {
    const klens::ranked_place& place = ranking.places[i];
    if (place.group != ranking.places[first].group) first = i;
    const bool shared = i > first || (i + 1 < ranking.places.size() && ranking.places[i + 1].group == place.group);
    const double damage = std::max(0.0, all.metrics[of.metric].linear_damage(place.candidate->metrics[of.metric].mean));
    of.candidates.push_back({place.candidate, damage, text("%zu%s", first + 1, shared ? "=" : ""), place.group});
    of.most = std::max(of.most, damage);
  }
  for (const klens::layer_score* each : all.ranked(metric))
    if (each->scheme == scheme && std::ranges::find(of.candidates, each, &ranked_candidate::score) == of.candidates.end())
      of.candidates.push_back({each, std::numeric_limits<double>::quiet_NaN(), "-", 0});
  of.kinds = shares_of(of.candidates);
  return of;
}

}  // namespace programs
