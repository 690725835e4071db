#include "validate_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "report/page.hpp"
#include "terminal.hpp"
#include "validate_words.hpp"

namespace programs {
namespace {

using cells = std::vector<std::string>;

const cells verdict_heading{"metric", "tau",  "95 % interval",  "rho",           "95 % interval", "top 5 %",
                            "10 %",   "20 %", "tau of kl - it", "95 % interval", "other text"};

cells verdict_cells(const study_metric& metric, const metric_verdict& of) {
  cells row{metric.name, number_text(of.kendall.value), range_text(of.kendall), number_text(of.spearman.value),
            range_text(of.spearman)};
  for (const klens::estimate& each : of.top_overlap) row.push_back(std::isnan(each.value) ? "-" : text("%.2f", each.value));
  const bool itself = metric.name == "kl";
  row.push_back(itself ? "" : number_text(of.kl_minus.value));
  row.push_back(itself ? "" : range_text(of.kl_minus));
  row.push_back(number_text(of.other_text.value));
  return row;
}

cells need_heading(const token_need& need) {
  cells heading{"sequences"};
  for (const std::size_t each : need.sequences) heading.push_back(text("%zu", each));
  return heading;
}
std::vector<cells> need_rows(const token_need& need) {
  cells kl{"kl"}, delta_ce{"delta_ce"};
  for (const double each : need.kl) kl.push_back(number_text(each));
  for (const double each : need.delta_ce) delta_ce.push_back(number_text(each));
  return {kl, delta_ce};
}

// Tau by the number of calibration sequences, a row each; the schemes beside one another would not fit.
page_table ablation_table(const study& all, const std::string& scheme) {
  page_table table{{"calibration sequences"}, {}, scheme + ": tau with perplexity by the first calibration sequences", false};
  for (const token_ablation& each : all.ablations) {
    if (each.scheme != scheme) continue;
    cells row{text("%zu", each.sequences)};
    for (std::size_t m = 0; m < each.kendall.size(); ++m) {
      if (table.rows.empty()) table.heading.push_back(all.metrics[m].name);
      row.push_back(number_text(each.kendall[m].value));
    }
    table.rows.push_back(row);
  }
  return table;
}

// Tau by scheme: what bits, groups of columns and KL's direction do.
page_table scheme_table(const study& all) {
  page_table table{{"scheme"}, {}, "tau with perplexity by scheme (bits, groups of columns)", false};
  for (const study_metric& each : all.metrics) table.heading.push_back(each.name);
  for (const study_group& group : all.groups) {
    if (group.significant_only) continue;
    cells row{scheme_text(group.scheme)};
    for (const metric_verdict& each : group.verdicts) row.push_back(number_text(each.kendall.value));
    table.rows.push_back(row);
  }
  return table;
}

std::vector<page_table> ablation_tables(const study& all) {
  std::vector<page_table> tables{scheme_table(all)};
  for (const std::string& scheme : all.schemes()) tables.push_back(ablation_table(all, scheme));
  return tables;
}

void print_table(const page_table& of) {
  table lines{"l" + std::string(of.heading.size() - 1, 'r')};
  lines.add(of.heading);
  for (const cells& each : of.rows) lines.add(each);
  if (!of.caption.empty()) std::printf("\n%s\n\n", of.caption.c_str());
  lines.print(stdout);
}

// The answer in few lines: five metrics, by scheme.
page_table short_table(const study& all) {
  const std::vector<std::string> schemes = all.schemes();
  page_table table{{"scheme", "metric", "tau with perplexity", "95 % interval", "with itself on other text"}, {}, {}, false};
  const std::vector<const study_group*> groups = all.by_scheme();
  for (std::size_t s = 0; s < groups.size(); ++s)
    for (const char* name : {"kl", "mse", "sqnr", "top1", "weight_sqnr"}) {
      const std::size_t m = all.index_of(name);
      if (m == all.metrics.size()) continue;
      const metric_verdict& of = groups[s]->verdicts[m];
      table.rows.push_back(
          {schemes[s], name, number_text(of.kendall.value), range_text(of.kendall), number_text(of.other_text.value)});
    }
  return table;
}

page_table group_table(const study& all, const study_group& group) {
  page_table table{verdict_heading, {}, group_text(group), false};
  for (std::size_t m = 0; m < all.metrics.size(); ++m) table.rows.push_back(verdict_cells(all.metrics[m], group.verdicts[m]));
  return table;
}

constexpr const char* how_to_read =
    "tau (Kendall's tau-b) and rho (Spearman) say how far a metric on the calibration tokens orders candidates as the "
    "perplexity "
    "increase on the held-out tokens does: 1 is the same order, 0 none. Top 5, 10, 20 %: the share of the worst by perplexity "
    "that "
    "are among the worst by the metric. Intervals: bootstrap over sequences. Other text: tau of the metric with itself on the "
    "held-out tokens.";

std::string point_text(const study_candidate& each, const study_metric& metric, double score) {
  return each.calibrated->layer + " as " + each.calibrated->scheme + ": " + metric.name + text(" %.4g ", score) + metric.unit +
         text(", perplexity %+.3g %% (%+.3g .. %+.3g)", 100 * std::expm1(each.delta_ce.value),
              100 * std::expm1(each.delta_ce.range->low), 100 * std::expm1(each.delta_ce.range->high));
}

scatter_plot plot_of(const study& all, const study_group& group, std::size_t m) {
  const study_metric& metric = all.metrics[m];
  const bool linear = metric.unit == "dB" || metric.unit == "share";
  scatter_plot plot{
      metric.name,
      {metric.name + ", " + metric.unit + (metric.higher_is_worse ? "" : " (falling)") + ": worse →", !linear,
       !metric.higher_is_worse},
      {"perplexity increase, %", true},
      {},
      "tau " + number_text(group.verdicts[m].kendall.value) + " (" + range_text(group.verdicts[m].kendall) + ")."};
  for (const std::size_t c : group.members) {
    const study_candidate& each = all.candidates[c];
    auto series = std::ranges::find(plot.series, each.calibrated->kind, &plot_series::name);
    if (series == plot.series.end()) series = plot.series.insert(series, {each.calibrated->kind, {}, false});
    series->points.push_back({metric.scores[c], 100 * std::expm1(each.delta_ce.value),
                              point_text(each, metric, metric.scores[c]), !each.is_significant(), false});
  }
  return plot;
}

page_table candidate_table(const study& all, const study_group& group) {
  page_table table{{"layer"}, {}, scheme_text(group.scheme) + text(": all %zu candidates", group.members.size()), true};
  for (const study_metric& each : all.metrics) table.heading.push_back(each.name);
  for (const char* each : {"perplexity", "increase, %", "95 % interval"}) table.heading.emplace_back(each);
  std::vector<std::size_t> order = group.members;
  std::ranges::stable_sort(order, std::ranges::greater{}, [&](std::size_t c) { return all.candidates[c].delta_ce.value; });
  for (const std::size_t c : order) {
    const study_candidate& each = all.candidates[c];
    cells row{each.calibrated->layer + (group.scheme.empty() ? " as " + each.calibrated->scheme : "")};
    for (const study_metric& metric : all.metrics) row.push_back(text("%.4g", metric.scores[c]));
    row.push_back(text("%.3f", each.perplexity));
    row.push_back(text("%+.3f", 100 * std::expm1(each.delta_ce.value)));
    row.push_back(
        text("%+.3f .. %+.3f", 100 * std::expm1(each.delta_ce.range->low), 100 * std::expm1(each.delta_ce.range->high)));
    table.rows.push_back(row);
  }
  return table;
}

}  // namespace

void print_study(const study& all, const study_origin& origin, bool everything) {
  std::printf("%s\n\n", headline(all, origin).c_str());
  for (const std::string& each : verdict_texts(all)) std::printf("%s\n", each.c_str());
  print_table(short_table(all));
  for (const std::string& each : all.left_out) std::printf("- left out: %s\n", each.c_str());
  if (!everything) {
    std::printf("\n--all prints more: every metric, significant changes alone, and how many tokens an order takes\n");
    return;
  }
  for (const study_group& group : all.groups) {
    print_table(group_table(all, group));
    std::printf("\n");
    for (const char* other : {"sqnr", "mse"}) std::printf("%s\n", duel_text(all, group, other).c_str());
  }
  std::printf("\nHow many tokens an order takes: tau to expect between the orders by so many sequences and as many others\n");
  for (const token_need& need : all.needs) {
    print_table({need_heading(need), need_rows(need), need.scheme, false});
    for (const std::string& each : need_texts(all, need, origin)) std::printf("%s\n", each.c_str());
  }
  if (!all.ablations.empty())
    for (const page_table& each : ablation_tables(all)) print_table(each);
}

std::string study_page(const study& all, const study_origin& origin) {
  report_page page{"klens validate: " + origin.model};
  page.add_paragraph(headline(all, origin) + ".");
  for (const std::string& each : verdict_texts(all)) page.add_paragraph(each);
  page.add_paragraph(how_to_read);
  for (const study_group& group : all.groups) {
    if (!group.significant_only) page.add_heading(scheme_text(group.scheme));
    page.add_table(group_table(all, group));
    for (const char* other : {"sqnr", "mse"}) page.add_paragraph(duel_text(all, group, other));
    if (group.significant_only) continue;
    std::vector<scatter_plot> plots;
    for (std::size_t m = 0; m < all.metrics.size(); ++m) plots.push_back(plot_of(all, group, m));
    page.add_plots(plots);
    page.add_paragraph(
        "Hollow: the perplexity change lies within its own error. Below the dashed line: perplexity did not rise.");
    page.add_table(candidate_table(all, group));
  }
  page.add_heading("How many tokens an order takes");
  for (const token_need& need : all.needs) {
    page.add_table({need_heading(need), need_rows(need),
                    need.scheme + ": tau to expect between the orders by so many sequences and as many others", false});
    for (const std::string& each : need_texts(all, need, origin)) page.add_paragraph(each);
  }
  if (!all.ablations.empty()) {
    page.add_heading("What agreement depends on");
    for (const page_table& each : ablation_tables(all)) page.add_table(each);
  }
  return page.html();
}

}  // namespace programs
