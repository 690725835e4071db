#include <algorithm>
#include <cmath>
#include <cstdio>
#include <klens/io/plan_json.hpp>
#include <klens/plan/detail/name_pattern.hpp>
#include <klens/plan/exact.hpp>
#include <klens/plan/local_search.hpp>
#include <klens/plan/plan.hpp>
#include <klens/plan/pools.hpp>
#include <klens/plan/size.hpp>
#include <klens/plan/tolerance.hpp>
#include <klens/quant/scheme.hpp>
#include <map>
#include <string>
#include <vector>

#include "commands.hpp"
#include "named_allocator.hpp"
#include "plan_export.hpp"
#include "plan_inputs.hpp"
#include "plan_versions.hpp"
#include "terminal.hpp"
#include "token_file.hpp"

namespace programs {
namespace {

constexpr const char* tolerance_name = "tolerance";

void check_request(const plan_arguments& arguments) {
  const bool tolerant = arguments.allocator == tolerance_name;
  if (!tolerant) named_allocator{arguments.allocator};
  const int limits = (arguments.budget.empty() ? 0 : 1) + (arguments.pools.empty() ? 0 : 1) + (arguments.max_damage ? 1 : 0);
  if (tolerant && limits > 0)
    throw klens::argument_error{"--allocator tolerance: its limit is --gamma; leave --budget, --pool and --max-damage away"};
  if (!tolerant && limits != 1) throw klens::argument_error{"give one of --budget, --pool (for each pool) and --max-damage"};
  if (arguments.max_damage && arguments.allocator != klens::exact::name)
    throw klens::argument_error{"--max-damage: only the exact allocator looks for the smallest plan"};
  if (arguments.local_search > 0 && (tolerant || !arguments.pools.empty()))
    throw klens::argument_error{"--local-search: improves a plan under one budget; leave --pool and tolerance away"};
}

// Measures on the tokens that were scored, for what looks for a plan by measuring.
class calibration_measurer {
 public:
  calibration_measurer(plan_inputs& inputs, const plan_arguments& arguments)
      : inputs_{&inputs}, run_{&arguments.run}, tokens_{read(inputs, arguments)} {}

  /// The untouched model, then the version.
  [[nodiscard]] std::vector<measured_version> operator()(const named_schemes& version) {
    return measure_versions(inputs_->loaded, inputs_->layers, {version}, tokens_, run_->sequences_per_batch(), run_->threads);
  }

 private:
  static token_set read(const plan_inputs& inputs, const plan_arguments& arguments) {
    const klens::scores_origin& from = inputs.scored.origin;
    const std::filesystem::path file =
        arguments.calibration.empty() ? std::filesystem::path{from.tokens_file} : arguments.calibration;
    if (!std::filesystem::exists(file))
      throw klens::file_error{file.string() +
                              ": the tokens that were scored are not there; name their file with --calibration"};
    token_set tokens =
        read_tokens({file, inputs.scored.result.sequences, from.length, from.first}, inputs.loaded.vocabulary(), 0);
    if (shared_run(tokens, inputs.held_out))
      throw klens::file_error{file.string() +
                              ": has tokens of the held-out ones; a plan must not be made by measuring on them"};
    return tokens;
  }

  plan_inputs* inputs_;
  const run_arguments* run_;
  token_set tokens_;
};

// What was decided, and what is to be said of it.
struct decision {
  std::vector<klens::plan_unit> units;
  klens::allocation chosen;
  std::uint64_t budget_bytes = 0;
  std::string remarks;                          // lines
  std::optional<klens::allocation> unsearched;  // the plan before a local search
};

std::vector<klens::memory_pool> pools_of(const plan_arguments& arguments, const std::vector<klens::plan_unit>& units) {
  std::vector<klens::memory_pool> pools;
  for (const std::string& each : arguments.pools) {
    const auto [pattern, budget] = split_assignment(each, "--pool");
    klens::detail::name_pattern inside{pattern};
    std::uint64_t weights = 0;
    for (const klens::plan_unit& unit : units)
      if (inside.captures(unit.layers.front())) weights += unit.weights;
    inside.expect_matched();
    pools.push_back({pattern, pattern, klens::parse_budget(budget, weights, 2 * weights)});
  }
  return pools;
}

void decide_by_tolerance(decision& made, plan_inputs& inputs, const plan_arguments& arguments) {
  calibration_measurer measure{inputs, arguments};
  const double baseline = measure({})[0].perplexity();
  const auto perplexity = [&](std::span<const std::size_t> chosen) {
    return measure(schemes_of(made.units, chosen))[1].perplexity();
  };
  const klens::measured_allocation found = klens::tolerance{arguments.gamma}(made.units, perplexity, baseline);
  made.chosen = found.found;
  made.budget_bytes = found.found.bytes;
  made.remarks =
      text("tolerance: %zu measurements on the scored tokens; perplexity %.4f, %.4f times that of the untouched model\n",
           found.measurements, found.measured, found.measured / baseline);
}

void improve_by_search(decision& made, plan_inputs& inputs, const plan_arguments& arguments) {
  calibration_measurer measure{inputs, arguments};
  std::optional<double> first;
  const auto kl = [&](std::span<const std::size_t> chosen) {
    const double value = measure(schemes_of(made.units, chosen))[1].kl.mean();
    first = first.value_or(value);
    return value;
  };
  const klens::measured_allocation found =
      klens::local_search{arguments.local_search}(made.units, made.budget_bytes, made.chosen, kl);
  made.unsearched = made.chosen;
  made.chosen = found.found;
  made.remarks += text("local search: %zu measurements on the scored tokens; kl there %.5g -> %.5g\n", found.measurements,
                       *first, found.measured);
}

// How far greedy stays behind, and what the exact search has proven.
std::string gap_text(const decision& made, const klens::allocation& greedy) {
  const double more = greedy.damage - made.chosen.damage;
  return text("greedy under the same budget: predicted damage %.5g, %.2f %% more (%llu bytes)\n%s\n", greedy.damage,
              made.chosen.damage == 0 ? 0.0 : 100 * more / std::abs(made.chosen.damage),
              static_cast<unsigned long long>(greedy.bytes),
              made.chosen.gap == 0 ? "proven: no plan within these limits is better by prediction"
                                   : text("not proven: another plan could be better by %.3g", made.chosen.gap).c_str());
}

decision decide(plan_inputs& inputs, const plan_arguments& arguments) {
  decision made;
  made.units =
      klens::constrain(inputs.units(arguments.metric, arguments.rules, arguments.seed), constraints_of(arguments.rules));
  if (made.units.empty()) throw klens::argument_error{"--exclude leaves no layer to plan"};
  if (arguments.allocator == tolerance_name) {
    decide_by_tolerance(made, inputs, arguments);
    return made;
  }
  const named_allocator greedy{"greedy"};
  const bool exact = arguments.allocator == klens::exact::name;
  if (arguments.max_damage) {
    made.chosen = klens::exact{}.smallest(made.units, *arguments.max_damage);
    made.budget_bytes = made.chosen.bytes;
    made.remarks = gap_text(made, greedy(made.units, made.budget_bytes));
  } else if (!arguments.pools.empty()) {
    const std::vector<klens::memory_pool> pools = pools_of(arguments, made.units);
    for (const klens::memory_pool& each : pools) made.budget_bytes += each.budget_bytes;
    made.chosen = klens::allocate(made.units, pools, named_allocator{arguments.allocator});
    if (exact) made.remarks = gap_text(made, klens::allocate(made.units, pools, greedy));
  } else {
    const std::uint64_t weights = plan_inputs::weights_of(made.units);
    made.budget_bytes = klens::parse_budget(arguments.budget, weights, 2 * weights);
    made.chosen = named_allocator{arguments.allocator}(made.units, made.budget_bytes);
    if (exact) made.remarks = gap_text(made, greedy(made.units, made.budget_bytes));
  }
  if (arguments.local_search > 0) improve_by_search(made, inputs, arguments);
  return made;
}

void print_table(const std::vector<listed_version>& listed, const std::vector<measured_version>& measured, double weights) {
  table lines{"lrrrrrr"};
  lines.add({"model", "bytes", "bits/weight", "kl", "ppl", "+-", "top1"});
  for (std::size_t v = 0; v < listed.size(); ++v) {
    const measured_version& of = measured[v + 1];
    const double error = of.perplexity_error(measured[0]);
    lines.add({listed[v].name, text("%llu", static_cast<unsigned long long>(listed[v].bytes)),
               text("%.3f", 8 * static_cast<double>(listed[v].bytes) / weights), text("%.5g", of.kl.mean()),
               text("%.4f", of.perplexity()), std::isnan(error) ? "" : text("%.3f", error), text("%.4f", of.top1.mean())});
  }
  lines.print(stdout);
  std::printf("+-: standard error of the perplexity's difference to that of the untouched model\n\n");
}

}  // namespace

void plan(const plan_arguments& arguments) {
  check_request(arguments);
  if (!arguments.output.empty()) klens::atomic_file{arguments.output};
  plan_exports exports{arguments.exports};
  std::optional<listed_version> second;
  if (!arguments.second_opinion.empty()) {
    plan_inputs inputs{arguments.run, arguments.second_opinion};
    const decision other = decide(inputs, arguments);
    second = {"second opinion", other.chosen.bytes, schemes_of(other.units, other.chosen.chosen)};
  }

  plan_inputs inputs{arguments.run, arguments.scores};
  const decision made = decide(inputs, arguments);
  klens::plan found = klens::make_plan(arguments.allocator, made.units, made.chosen, made.budget_bytes, {}, arguments.metric);
  const std::optional<double> predicted = inputs.predicted_kl(found);
  if (predicted) found.predicted["kl"] = *predicted;

  exports.prepare(found, inputs, arguments.run.model);

  std::vector<listed_version> listed;
  for (const std::string& each : baseline_names(inputs.schemes)) listed.push_back(uniform(each, made.units, inputs.layers));
  const std::size_t baselines = listed.size();
  if (second) listed.push_back(*second);
  if (made.unsearched)
    listed.push_back({"plan unsearched", made.unsearched->bytes, schemes_of(made.units, made.unsearched->chosen)});
  listed.push_back({"plan", found.bytes, schemes_of(made.units, made.chosen.chosen)});
  std::vector<named_schemes> versions;
  for (const listed_version& each : listed) versions.push_back(each.schemes);
  const std::vector<measured_version> measured = inputs.measure(versions);
  const measured_version& own = measured.back();
  for (std::size_t b = 0; b < baselines; ++b)
    found.baselines[listed[b].name] = {listed[b].bytes, measured[b + 1].kl.mean(), measured[b + 1].perplexity()};
  found.measured = {own.kl.mean(), own.perplexity(), own.top1.mean(), inputs.held_out.tokens.size()};

  std::printf("%s plan of %zu layers by %s: %llu bytes, budget %llu; held-out: %zu sequences of %zu tokens\n\n",
              arguments.allocator.c_str(), found.layers.size(), arguments.metric.c_str(),
              static_cast<unsigned long long>(found.bytes), static_cast<unsigned long long>(found.budget_bytes),
              inputs.held_out.sequences, inputs.held_out.length);
  print_table(listed, measured, static_cast<double>(plan_inputs::weights_of(made.units)));
  std::map<std::string, std::size_t> counts;
  for (const klens::layer_scheme& each : found.layers) ++counts[each.scheme];
  std::printf("layers:");
  for (const auto& [scheme, count] : counts) std::printf("  %zu %s", count, scheme.c_str());
  if (predicted && *predicted > 0)
    std::printf("\nkl predicted %.5g, measured %.5g: measured / predicted %.3f", *predicted, own.kl.mean(),
                own.kl.mean() / *predicted);
  std::printf("\n%s", made.remarks.c_str());
  exports.write(found, inputs, arguments.run.model);
  if (!arguments.output.empty()) {
    klens::write_plan(arguments.output, found);
    std::printf("plan written to %s\n", arguments.output.c_str());
  }
}

}  // namespace programs
