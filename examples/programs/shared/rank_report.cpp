#include "rank_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <klens/rank/ranking.hpp>
#include <map>
#include <string>
#include <vector>

#include "terminal.hpp"

namespace programs {
namespace {

constexpr std::size_t bar_width = 12;

using candidates = std::vector<const klens::layer_score*>;

// What bars and shares show; a damage below 0 is noise.
double shown_damage(const klens::metric_info& metric, double mean) { return std::max(0.0, metric.linear_damage(mean)); }

std::string interval_text(const klens::metric_score& score) {
  return std::isnan(score.low) ? "" : text("%.3g .. %.3g", score.low, score.high);
}

// The other metrics worth a column beside the one that sorts, as far as they were measured.
std::vector<std::size_t> side_columns(const klens::scores& scores, std::size_t sorted_by) {
  std::vector<std::size_t> columns;
  for (const char* wanted : {"kl", "sqnr", "mse", "top1"})
    for (std::size_t m = 0; m < scores.metrics.size(); ++m)
      if (scores.metrics[m].name == wanted && m != sorted_by) columns.push_back(m);
  return columns;
}

// Places as people write them: "4=" for all who share the fourth.
std::map<const klens::layer_score*, std::string> place_texts(const klens::ranking& ranking) {
  std::map<const klens::layer_score*, std::string> texts;
  for (std::size_t i = 0, first = 0; i < ranking.places.size(); ++i) {
    const std::size_t group = ranking.places[i].group;
    if (group != ranking.places[first].group) first = i;
    const bool shared = i > first || (i + 1 < ranking.places.size() && ranking.places[i + 1].group == group);
    texts[ranking.places[i].candidate] = text("%zu%s", first + 1, shared ? "=" : "");
  }
  return texts;
}

void print_scheme(const klens::scores& scores, const candidates& ranked, std::size_t metric) {
  const klens::metric_info& info = scores.metrics[metric];
  const klens::ranking ranking = klens::ranking_of(scores, info.name, ranked.front()->scheme);
  std::map<const klens::layer_score*, std::string> places = place_texts(ranking);
  const bool early = std::ranges::any_of(ranked, [](const auto* each) { return each->place != klens::standing::open; });
  double most = 0;
  for (const auto* each : ranked)
    if (says_something(*each)) most = std::max(most, shown_damage(info, each->metrics[metric].mean));

  const std::vector<std::size_t> beside = side_columns(scores, metric);
  // Perplexities over different sequences are not to be compared, so they are not shown once candidates have left.
  const bool perplexities =
      !early && std::ranges::any_of(ranked, [&](const auto* each) { return !std::isnan(scores.perplexity(*each)); });
  const bool predicted =
      std::ranges::any_of(ranked, [](const auto* each) { return each->source == klens::score_source::local; });
  table lines{"llrrrll" + std::string(beside.size() + (perplexities ? 1 : 0) + (early ? 1 : 0) + (predicted ? 1 : 0), 'r')};
  std::vector<std::string> heading{"", "layer", "shape", "bytes", info.name, "95 % interval", ""};
  for (const std::size_t m : beside) heading.push_back(scores.metrics[m].name);
  if (perplexities) heading.emplace_back("ppl");
  if (early) heading.emplace_back("positions");
  if (predicted) heading.emplace_back("source");
  lines.add(heading);
  for (const auto* each : ranked) {
    const klens::metric_score& score = each->metrics[metric];
    const bool speaks = says_something(*each);
    std::vector<std::string> cells{speaks ? places[each] : "-",
                                   each->layer,
                                   text("%zux%zu", each->rows, each->columns),
                                   text("%llu", static_cast<unsigned long long>(each->bytes)),
                                   speaks ? text("%.4g", score.mean) : "-",
                                   speaks ? interval_text(score) : "",
                                   speaks && most > 0 ? bar(shown_damage(info, score.mean) / most, bar_width) : ""};
    for (const std::size_t m : beside) cells.push_back(speaks ? text("%.4g", each->metrics[m].mean) : "-");
    if (perplexities) cells.push_back(speaks ? text("%.3f", scores.perplexity(*each)) : "-");
    if (early) cells.push_back(text("%zu%s", each->positions, klens::is_settled(each->place) ? " settled" : ""));
    if (predicted) cells.emplace_back(each->source == klens::score_source::local ? "local" : "exact");
    lines.add(cells);
  }
  lines.print(stdout);
  if (!std::isnan(ranking.stability))
    std::printf(
        "= shares its place: the data do not tell such layers apart. Kendall's tau to expect on as much fresh text: %.3f\n",
        ranking.stability);
}

// Which kind of layer the damage sits in: sums over layers, for damage is nearly additive.
void print_kinds(const klens::scores& scores, const candidates& ranked, std::size_t metric) {
  struct kind_total {
    std::size_t layers = 0;
    double damage = 0;
  };
  std::map<std::string, kind_total> kinds;
  double all = 0;
  for (const auto* each : ranked) {
    if (!says_something(*each)) continue;
    const double damage = shown_damage(scores.metrics[metric], each->metrics[metric].mean);
    kinds[each->kind].damage += damage;
    ++kinds[each->kind].layers;
    all += damage;
  }
  if (!(all > 0) || !std::isfinite(all)) return;
  std::vector<std::pair<std::string, kind_total>> order{kinds.begin(), kinds.end()};
  std::ranges::stable_sort(order, [](const auto& a, const auto& b) { return a.second.damage > b.second.damage; });
  table lines{"lrrl"};
  lines.add({"kind", "layers", "share of " + scores.metrics[metric].name, ""});
  for (const auto& [kind, total] : order)
    lines.add(
        {kind, text("%zu", total.layers), text("%.1f %%", 100 * total.damage / all), bar(total.damage / all, 2 * bar_width)});
  std::printf("\n");
  lines.print(stdout);
}

void print_warnings(const klens::scores& scores, const candidates& ranked) {
  for (const auto* each : ranked) {
    if (each->result == klens::outcome::output_unchanged)
      std::printf(
          "! %s: its weights changed and not one logit did. The forward does not use them; this is no sign of robustness.\n",
          each->layer.c_str());
    if (each->result == klens::outcome::weights_unchanged)
      std::printf("~ %s: %s keeps these weights exactly.\n", each->layer.c_str(), each->scheme.c_str());
  }
  std::map<std::string, std::string> notes;
  for (const auto* each : ranked)
    if (!each->note.empty()) notes[each->layer] = each->note;
  for (const auto& [layer, note] : notes) std::printf("* %s: %s\n", layer.c_str(), note.c_str());
  if (scores.sequences < 2) std::printf("One sequence tells nothing of the spread: no intervals. Use more --sequences.\n");
}

}  // namespace

bool says_something(const klens::layer_score& each) {
  return each.result == klens::outcome::measured || each.result == klens::outcome::weights_unchanged;
}

void print_ranking(const klens::scores& scores, const std::string& sort) {
  const std::size_t metric = scores.index_of(sort);
  const klens::metric_info& info = scores.metrics[metric];
  const candidates all = scores.ranked(sort);
  for (const std::string& scheme : scores.schemes()) {
    candidates ranked;
    std::ranges::copy_if(all, std::back_inserter(ranked), [&](const auto* each) { return each->scheme == scheme; });
    std::printf("\n%s: %s in %s, worst first (%s is worse)\n\n", scheme.c_str(), info.name.c_str(), info.unit.c_str(),
                info.higher_is_worse ? "higher" : "lower");
    print_scheme(scores, ranked, metric);
    print_kinds(scores, ranked, metric);
    print_warnings(scores, ranked);
  }
  for (const klens::layer_score& each : scores.candidates)
    if (each.result == klens::outcome::failed)
      std::printf("! %s as %s was not scored: %s\n", each.layer.c_str(), each.scheme.c_str(), each.reason.c_str());
  if (!std::isnan(scores.expected_tau))
    std::printf("\nexpected agreement with the exhaustive order: tau %.2f\n", scores.expected_tau);
  for (const std::string& each : scores.remarks) std::printf("! %s\n", each.c_str());
  for (const std::string& each : scores.skipped) std::printf("- left out: %s\n", each.c_str());
}

}  // namespace programs
