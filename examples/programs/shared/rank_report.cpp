#include "rank_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "position_report.hpp"
#include "ranked_scheme.hpp"
#include "terminal.hpp"

namespace programs {
namespace {

constexpr std::size_t bar_width = 12;

// The other metrics worth a column beside the one that sorts, as far as they were measured.
std::vector<std::size_t> side_columns(const klens::scores& scores, std::size_t sorted_by) {
  std::vector<std::size_t> columns;
  for (const char* wanted : {"kl", "sqnr", "mse", "top1"})
    for (std::size_t m = 0; m < scores.metrics.size(); ++m)
      if (scores.metrics[m].name == wanted && m != sorted_by) columns.push_back(m);
  return columns;
}

void print_scheme(const klens::scores& scores, const ranked_scheme& ranked) {
  const std::size_t metric = ranked.metric;
  const bool early =
      std::ranges::any_of(ranked.candidates, [](const auto& each) { return each.score->place != klens::standing::open; });
  const std::vector<std::size_t> beside = side_columns(scores, metric);
  // Perplexities over different sequences are not to be compared, so they are not shown once candidates have left.
  const bool perplexities = !early && std::ranges::any_of(ranked.candidates, [&](const auto& each) {
    return !std::isnan(scores.perplexity(*each.score));
  });
  const bool predicted =
      std::ranges::any_of(ranked.candidates, [](const auto& each) { return each.score->source == klens::score_source::local; });
  table lines{"llrrrll" + std::string(beside.size() + (perplexities ? 1 : 0) + (early ? 1 : 0) + (predicted ? 1 : 0), 'r')};
  std::vector<std::string> heading{"", "layer", "shape", "bytes", scores.metrics[metric].name, "95 % interval", ""};
  for (const std::size_t m : beside) heading.push_back(scores.metrics[m].name);
  if (perplexities) heading.emplace_back("ppl");
  if (early) heading.emplace_back("positions");
  if (predicted) heading.emplace_back("source");
  lines.add(heading);
  for (const ranked_candidate& shown : ranked.candidates) {
    const klens::layer_score& each = *shown.score;
    const bool speaks = !std::isnan(shown.damage);
    std::vector<std::string> cells{shown.place,
                                   each.layer,
                                   text("%zux%zu", each.rows, each.columns),
                                   text("%llu", static_cast<unsigned long long>(each.bytes)),
                                   speaks ? text("%.4g", each.metrics[metric].mean) : "-",
                                   ranked.interval_text(shown),
                                   speaks && ranked.most > 0 ? bar(shown.damage / ranked.most, bar_width) : ""};
    for (const std::size_t m : beside) cells.push_back(speaks ? text("%.4g", each.metrics[m].mean) : "-");
    if (perplexities) cells.push_back(speaks ? text("%.3f", scores.perplexity(each)) : "-");
    if (early) cells.push_back(text("%zu%s", each.positions, klens::is_settled(each.place) ? " settled" : ""));
    if (predicted) cells.emplace_back(each.source == klens::score_source::local ? "local" : "exact");
    lines.add(cells);
  }
  lines.print(stdout);
  if (!std::isnan(ranked.stability))
    std::printf(
        "= shares its place: the data do not tell such layers apart. Kendall's tau to expect on as much fresh text: %.3f\n",
        ranked.stability);
}

void print_kinds(const ranked_scheme& ranked, const std::string& metric) {
  if (ranked.kinds.empty()) return;
  table lines{"lrrl"};
  lines.add({"kind", "layers", "share of " + metric, ""});
  for (const kind_share& each : ranked.kinds)
    lines.add({each.kind, text("%zu", each.layers), text("%.1f %%", 100 * each.share), bar(each.share, 2 * bar_width)});
  std::printf("\n");
  lines.print(stdout);
}

// Damage along a sequence, and whose grows.
void print_positions(const klens::scores& scores, const ranked_scheme& ranked) {
  const position_report report = position_report_of(scores, ranked, false);
  if (report.rows.empty()) return;
  table lines{"l" + std::string(report.rows.front().size() - 1, 'r')};
  for (const auto& each : report.rows) lines.add(each);
  std::printf("\n%s in %s by position\n\n", scores.metrics.front().name.c_str(), scores.metrics.front().unit.c_str());
  lines.print(stdout);
  for (const std::string& each : report.flags) std::printf("^ %s\n", printable(each).c_str());
}

void print_warnings(const klens::scores& scores, const ranked_scheme& ranked) {
  std::map<std::string, std::string> notes;
  for (const ranked_candidate& shown : ranked.candidates) {
    const klens::layer_score* const each = shown.score;
    if (each->result == klens::outcome::output_unchanged)
      std::printf(
          "! %s: its weights changed and not one logit did. The forward does not use them; this is no sign of robustness.\n",
          each->layer.c_str());
    if (each->result == klens::outcome::weights_unchanged)
      std::printf("~ %s: %s keeps these %s exactly.\n", each->layer.c_str(), each->scheme.c_str(),
                  each->site == klens::site_kind::weights ? "weights" : "values");
    if (!each->note.empty()) notes[each->layer] = each->note;
  }
  for (const auto& [layer, note] : notes) std::printf("* %s: %s\n", layer.c_str(), note.c_str());
  if (scores.sequences < 2) std::printf("One sequence tells nothing of the spread: no intervals. Use more --sequences.\n");
}

}  // namespace

void print_ranking(const klens::scores& scores, const std::string& sort) {
  const klens::metric_info& info = scores.metrics[scores.index_of(sort)];
  for (const std::string& scheme : scores.schemes()) {
    const ranked_scheme ranked = ranked_scheme_of(scores, sort, scheme);
    std::printf("\n%s: %s in %s, worst first (%s is worse)\n\n", scheme.c_str(), info.name.c_str(), info.unit.c_str(),
                info.higher_is_worse ? "higher" : "lower");
    print_scheme(scores, ranked);
    print_kinds(ranked, info.name);
    print_positions(scores, ranked);
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
