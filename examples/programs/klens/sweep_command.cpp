#include <algorithm>
#include <cmath>
#include <cstdio>
#include <klens/io/atomic_file.hpp>
#include <klens/io/json_text.hpp>
#include <klens/plan/plan.hpp>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "named_allocator.hpp"
#include "plan_inputs.hpp"
#include "plan_remarks.hpp"
#include "plan_versions.hpp"
#include "report/page.hpp"
#include "terminal.hpp"
#include "token_file.hpp"

namespace programs {
namespace {

// A point of the curve: what an allocator made of a metric under a budget.
struct swept_point {
  std::string allocator, metric;  // "uniform" has a scheme in place of a metric
  std::uint64_t budget_bytes = 0;
  std::uint64_t bytes = 0;
  std::size_t version = 0;  // which of those that are measured
  std::optional<double> predicted_kl{};
  bool on_front = false;            // no other is as small and loses less
  bool on_predicted_front = false;  // the same by the sum of single KLs
};

struct swept_curve {
  std::vector<swept_point> points;
  std::vector<klens::model_version> versions;  // each once: many points are the same plan
  std::uint64_t weights = 0;
  std::string untouched;  // the scheme that holds the weights
  std::vector<klens::unknown_damage> unknown{};
  std::string remarks{};  // lines

  void add(swept_point point, klens::model_version version) {
    point.version = static_cast<std::size_t>(std::ranges::find(versions, version) - versions.begin());
    if (point.version == versions.size()) versions.push_back(std::move(version));
    points.push_back(std::move(point));
  }
};

// Sizes from the smallest plan to the largest, each by the same factor.
std::vector<std::uint64_t> budgets_between(const std::vector<klens::plan_unit>& units, std::size_t count) {
  const auto low = static_cast<double>(klens::detail::smallest_choices(units).bytes);
  double high = 0;
  for (const klens::plan_unit& each : units)
    high += static_cast<double>(std::ranges::max_element(each.choices, {}, &klens::plan_choice::bytes)->bytes);
  std::vector<std::uint64_t> budgets;
  for (std::size_t i = 0; i < count; ++i)
    budgets.push_back(static_cast<std::uint64_t>(
        std::round(low * std::pow(high / low, static_cast<double>(i) / static_cast<double>(count - 1)))));
  return budgets;
}

swept_curve plan_all(const plan_inputs& inputs, const sweep_arguments& arguments) {
  swept_curve curve;
  curve.untouched = inputs.untouched(arguments.rules);
  const klens::plan_constraints constraints = constraints_of(arguments.rules);
  std::vector<klens::plan_unit> units;
  for (const std::string& metric : arguments.metrics) {
    klens::scored_units scored = inputs.units(metric, arguments.rules, arguments.seed);
    units = klens::constrain(std::move(scored.units), constraints);
    curve.unknown = unknown_among(units, scored.unknown);
    if (units.empty()) throw klens::argument_error{"--exclude leaves no layer to plan"};
    for (const std::string& allocator : arguments.allocators)
      for (const std::uint64_t budget : budgets_between(units, arguments.budgets)) {
        const klens::allocation found = named_allocator{allocator}(units, budget);
        const klens::plan plan = klens::make_plan(allocator, units, found, budget, {}, metric);
        curve.add({allocator, metric, budget, found.bytes, 0, inputs.predicted_kl(plan)}, klens::version_of(plan));
      }
  }
  curve.weights = klens::weights_of(units);
  for (const std::string& name : baseline_names(inputs.schemes, curve.untouched)) {
    listed_version all = uniform(name, units, inputs.layers, curve.untouched);
    curve.remarks += remark_on(all, curve.untouched);
    curve.add({"uniform", name, all.bytes, all.bytes}, std::move(all.version));
  }
  return curve;
}

/// Whether no other point is as small and loses less; `loss` is NaN where nobody knows it.
template <class Loss>
bool unbeaten(const swept_point& of, const std::vector<swept_point>& points, const Loss& loss) {
  return !std::isnan(loss(of)) && std::ranges::none_of(points, [&](const swept_point& other) {
    return other.bytes <= of.bytes && loss(other) <= loss(of) && (other.bytes < of.bytes || loss(other) < loss(of));
  });
}

void mark_fronts(std::vector<swept_point>& points, const std::vector<klens::measured_version>& measured) {
  for (swept_point& each : points) {
    each.on_front = unbeaten(each, points, [&](const swept_point& of) { return measured[of.version + 1].kl.mean(); });
    each.on_predicted_front = unbeaten(
        each, points, [](const swept_point& of) { return of.predicted_kl.value_or(std::numeric_limits<double>::quiet_NaN()); });
  }
}

nlohmann::ordered_json to_json(const swept_curve& curve, const std::vector<klens::measured_version>& measured,
                               const plan_inputs& inputs, const sweep_arguments& arguments) {
  using json = nlohmann::ordered_json;
  const auto number = [](double value) { return std::isfinite(value) ? json(value) : json(nullptr); };
  json points = json::array();
  for (const swept_point& each : curve.points) {
    const klens::measured_version& of = measured[each.version + 1];
    points.push_back({{"allocator", each.allocator},
                      {"metric", each.metric},
                      {"budget_bytes", each.budget_bytes},
                      {"bytes", each.bytes},
                      {"bits_per_weight", 8 * static_cast<double>(each.bytes) / static_cast<double>(curve.weights)},
                      {"predicted", {{"kl", each.predicted_kl ? number(*each.predicted_kl) : json(nullptr)}}},
                      {"kl", number(of.kl.mean())},
                      {"perplexity", number(of.perplexity())},
                      {"perplexity_error", number(of.perplexity_error(measured[0]))},
                      {"top1", number(of.top1.mean())},
                      {"pareto", each.on_front},
                      {"pareto_predicted", each.on_predicted_front}});
  }
  json unknown = json::array();  // as in plan.json
  for (const klens::unknown_damage& each : curve.unknown)
    unknown.push_back(
        {{"layer", each.layer}, {"scheme", each.scheme}, {"why", each.why}, {"assumed_harmless", each.assumed_harmless}});
  return {{"format", "klens-sweep"},
          {"version", 1},
          {"model", arguments.run.model.string()},
          {"tokens",
           {{"file", arguments.run.tokens.file.string()},
            {"sequences", inputs.held_out.sequences},
            {"length", inputs.held_out.length},
            {"positions", measured[0].kl.positions()}}},
          {"perplexity", number(measured[0].perplexity())},
          {"unknown", unknown},
          {"points", points}};
}

class sweep_report {
 public:
  sweep_report(const swept_curve& curve, const std::vector<klens::measured_version>& measured)
      : curve_{&curve}, measured_{&measured} {}

  [[nodiscard]] std::string html(const plan_inputs& inputs, const sweep_arguments& arguments) const {
    report_page page{"Size against quality: " + arguments.run.model.filename().string()};
    page.add_paragraph(
        "Held out: " + size_text(inputs.held_out) +
        text(" (%zu positions); the untouched model has a perplexity of %.4f. A ring marks the Pareto front: no other plan "
             "here is as small and loses less. Uniform: every layer under one scheme.",
             (*measured_)[0].kl.positions(), (*measured_)[0].perplexity()));
    for (const std::string& allocator : arguments.allocators) {
      page.add_heading("Allocator: " + allocator);
      std::vector<plot_series> by_kl, by_perplexity;
      for (const std::string& metric : arguments.metrics) {
        by_kl.push_back(series(allocator, metric, metric, false));
        by_perplexity.push_back(series(allocator, metric, metric, true));
      }
      by_kl.push_back(series("uniform", "", "uniform", false));
      by_perplexity.push_back(series("uniform", "", "uniform", true));
      const axis size{"bits per weight, scales included", false};
      page.add_plots(
          std::vector<scatter_plot>{{"KL divergence", size, {"KL to the untouched model, nats/token", true}, by_kl, {}},
                                    {"Perplexity", size, {"perplexity", false}, by_perplexity, {}}});
    }
    page.add_table(table_of());
    return page.html();
  }

 private:
  [[nodiscard]] double bits(const swept_point& of) const {
    return 8 * static_cast<double>(of.bytes) / static_cast<double>(curve_->weights);
  }

  // An empty metric: all.
  [[nodiscard]] plot_series series(const std::string& allocator, const std::string& metric, const std::string& name,
                                   bool perplexity) const {
    plot_series made{name, {}, allocator != "uniform"};
    for (const swept_point& each : curve_->points) {
      if (each.allocator != allocator || (!metric.empty() && each.metric != metric)) continue;
      const klens::measured_version& of = (*measured_)[each.version + 1];
      made.points.push_back({bits(each), perplexity ? of.perplexity() : of.kl.mean(),
                             text("%s, %s: %.3f bits/weight, KL %.4g, perplexity %.4f, top-1 %.4f", each.allocator.c_str(),
                                  each.metric.c_str(), bits(each), of.kl.mean(), of.perplexity(), of.top1.mean()),
                             false, each.on_front});
    }
    std::ranges::stable_sort(made.points, {}, &plot_point::x);
    return made;
  }

  [[nodiscard]] page_table table_of() const {
    page_table made{{"allocator", "metric", "bytes", "bits/weight", "KL predicted", "KL", "perplexity", "+-", "top-1", "front",
                     "predicted front"},
                    {},
                    "All points",
                    true};
    for (const swept_point& each : curve_->points) {
      const klens::measured_version& of = (*measured_)[each.version + 1];
      const double error = of.perplexity_error((*measured_)[0]);
      made.rows.push_back({each.allocator, each.metric, std::to_string(each.bytes), text("%.3f", bits(each)),
                           each.predicted_kl ? text("%.4g", *each.predicted_kl) : "", text("%.4g", of.kl.mean()),
                           text("%.4f", of.perplexity()), std::isnan(error) ? "" : text("%.3f", error),
                           text("%.4f", of.top1.mean()), each.on_front ? "yes" : "", each.on_predicted_front ? "yes" : ""});
    }
    return made;
  }

  const swept_curve* curve_;
  const std::vector<klens::measured_version>* measured_;
};

}  // namespace

void sweep(const sweep_arguments& arguments) {
  if (arguments.output.empty() && arguments.html.empty())
    throw klens::argument_error{"there is nowhere to put the curve; give --output, --html or both"};
  for (const auto& each : {arguments.output, arguments.html})
    if (!each.empty()) klens::atomic_file{each};
  for (const std::string& each : arguments.allocators) named_allocator{each};

  plan_inputs inputs{arguments.run, arguments.scores};
  swept_curve curve = plan_all(inputs, arguments);
  const std::vector<klens::measured_version> measured = inputs.measure(curve.versions);
  mark_fronts(curve.points, measured);
  std::printf("%zu points, %zu different plans, measured on %s (%zu positions); on the Pareto front:\n\n", curve.points.size(),
              curve.versions.size(), size_text(inputs.held_out).c_str(), measured[0].kl.positions());

  std::vector<const swept_point*> front;
  for (const swept_point& each : curve.points)
    if (each.on_front && std::ranges::none_of(front, [&](const auto* known) { return known->version == each.version; }))
      front.push_back(&each);
  std::ranges::stable_sort(front, {}, &swept_point::bytes);
  table lines{"llrrrrl"};
  lines.add({"allocator", "metric", "bytes", "bits/weight", "kl", "ppl", "by the sum of KLs, too"});
  for (const swept_point* each : front) {
    const klens::measured_version& of = measured[each->version + 1];
    lines.add({each->allocator, each->metric, text("%llu", static_cast<unsigned long long>(each->bytes)),
               text("%.3f", 8 * static_cast<double>(each->bytes) / static_cast<double>(curve.weights)),
               text("%.5g", of.kl.mean()), text("%.4f", of.perplexity()), each->on_predicted_front ? "yes" : ""});
  }
  lines.print(stdout);
  std::printf("%s%s", curve.remarks.c_str(), remarks_on(curve.unknown).c_str());
  if (!arguments.output.empty()) {
    klens::write_file(arguments.output, klens::json_text(to_json(curve, measured, inputs, arguments)));
    std::printf("curve written to %s\n", arguments.output.c_str());
  }
  if (!arguments.html.empty()) {
    klens::write_file(arguments.html, sweep_report{curve, measured}.html(inputs, arguments));
    std::printf("report written to %s\n", arguments.html.c_str());
  }
}

}  // namespace programs
