#include <algorithm>
#include <cmath>
#include <cstdio>
#include <klens/io/plan_json.hpp>
#include <klens/plan/exact.hpp>
#include <klens/plan/name_pattern.hpp>
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
#include "plan_page.hpp"
#include "plan_race.hpp"
#include "plan_remarks.hpp"
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
  if (arguments.candidates > 0 && (tolerant || arguments.budget.empty()))
    throw klens::argument_error{"--candidates: plans are raced under one --budget, without --pool, --max-damage and tolerance"};
  if (arguments.max_damage && arguments.allocator != klens::exact::name)
    throw klens::argument_error{"--max-damage: only the exact allocator looks for the smallest plan"};
}

// Measures on the tokens that were scored, for the allocator tolerance.
class calibration_measurer {
 public:
  calibration_measurer(plan_inputs& inputs, const plan_arguments& arguments)
      : inputs_{&inputs}, run_{&arguments.run}, tokens_{read(inputs, arguments)} {}

  /// The untouched model, then the version.
  [[nodiscard]] std::vector<klens::measured_version> operator()(const klens::model_version& version) {
    return measure_versions(inputs_->loaded, inputs_->layers, std::vector{version}, tokens_, run_->sequences_per_batch(),
                            run_->threads);
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
  std::vector<klens::unknown_damage> unknown;
  klens::allocation chosen;
  std::uint64_t budget_bytes = 0;
  std::string remarks;                        // lines
  std::optional<klens::allocation> greedy{};  // under the same budget, where the search was exact
};

std::vector<klens::memory_pool> pools_of(const plan_arguments& arguments, const std::vector<klens::plan_unit>& units) {
  std::vector<klens::memory_pool> pools;
  for (const std::string& each : arguments.pools) {
    const auto [pattern, budget] = split_assignment(each, "--pool");
    klens::name_pattern inside{pattern};
    std::uint64_t weights = 0;
    for (const klens::plan_unit& unit : units)
      if (inside.matches(unit.layers.front())) weights += unit.weights;
    inside.expect_matched();
    pools.push_back({pattern, pattern, klens::parse_budget(budget, weights, 2 * weights)});
  }
  return pools;
}

void decide_by_tolerance(decision& made, plan_inputs& inputs, const plan_arguments& arguments) {
  calibration_measurer measure{inputs, arguments};
  const double baseline = measure({})[0].perplexity();
  const auto perplexity = [&](std::span<const std::size_t> chosen) {
    return measure(klens::version_of(made.units, chosen))[1].perplexity();
  };
  const klens::measured_allocation found = klens::tolerance{arguments.gamma}(made.units, perplexity, baseline);
  made.chosen = found.found;
  made.budget_bytes = found.found.bytes;
  made.remarks =
      text("tolerance: %zu measurements on the scored tokens; perplexity %.4f, %.4f times that of the untouched model\n",
           found.measurements, found.measured, found.measured / baseline);
}

// How far greedy stays behind.
std::string greedy_text(const klens::allocation& chosen, const klens::allocation& greedy) {
  const double more = greedy.damage - chosen.damage;
  return text("greedy under the same budget: predicted damage %.5g, %.2f %% more (%llu bytes)\n", greedy.damage,
              chosen.damage == 0 ? 0.0 : 100 * more / std::abs(chosen.damage), static_cast<unsigned long long>(greedy.bytes));
}

void allocate(decision& made, plan_inputs& inputs, const plan_arguments& arguments) {
  const named_allocator greedy{"greedy"};
  const bool exact = arguments.allocator == klens::exact::name;
  if (arguments.allocator == tolerance_name) {
    decide_by_tolerance(made, inputs, arguments);
  } else if (arguments.max_damage) {
    made.chosen = klens::exact{}.smallest(made.units, *arguments.max_damage);
    made.budget_bytes = made.chosen.bytes;
    made.greedy = greedy(made.units, made.budget_bytes);
  } else if (!arguments.pools.empty()) {
    const std::vector<klens::memory_pool> pools = pools_of(arguments, made.units);
    for (const klens::memory_pool& each : pools) made.budget_bytes += each.budget_bytes;
    made.chosen = klens::allocate(made.units, pools, named_allocator{arguments.allocator});
    if (exact) made.greedy = klens::allocate(made.units, pools, greedy);
  } else {
    const std::uint64_t weights = klens::weights_of(made.units);
    made.budget_bytes = klens::parse_budget(arguments.budget, weights, 2 * weights);
    made.chosen = named_allocator{arguments.allocator}(made.units, made.budget_bytes);
    if (exact) made.greedy = greedy(made.units, made.budget_bytes);
  }
}

decision decide(plan_inputs& inputs, const plan_arguments& arguments) {
  klens::scored_units scored = inputs.units(arguments.metric, arguments.rules, arguments.seed);
  decision made;
  made.units = klens::constrain(std::move(scored.units), constraints_of(arguments.rules));
  made.unknown = unknown_among(made.units, scored.unknown);
  if (made.units.empty()) throw klens::argument_error{"--exclude leaves no layer to plan"};
  try {
    allocate(made, inputs, arguments);
  } catch (const klens::argument_error& caught) {
    throw klens::argument_error{with_unknown(caught.what(), made.unknown)};
  }
  return made;
}

// The table of what was measured, its heading first.
std::vector<std::vector<std::string>> rows_of(const std::vector<listed_version>& listed,
                                              const std::vector<klens::measured_version>& measured, double weights) {
  std::vector<std::vector<std::string>> rows{{"model", "bytes", "bits/weight", "kl", "ppl", "+-", "top1"}};
  for (std::size_t v = 0; v < listed.size(); ++v) {
    const klens::measured_version& of = measured[v + 1];
    const double error = of.perplexity_error(measured[0]);
    rows.push_back({listed[v].name, text("%llu", static_cast<unsigned long long>(listed[v].bytes)),
                    text("%.3f", 8 * static_cast<double>(listed[v].bytes) / weights), text("%.5g", of.kl.mean()),
                    text("%.4f", of.perplexity()), std::isnan(error) ? "" : text("%.3f", error), text("%.4f", of.top1.mean())});
  }
  return rows;
}

// What each kind of site takes under the plan.
std::string memory_text(const klens::plan& of, const std::vector<klens::layer>& layers) {
  std::map<klens::site_kind, std::uint64_t> bytes;
  for (const klens::layer& each : layers)
    if (const std::string* const scheme = of.scheme_of(each.name))
      bytes[each.site] += klens::scheme{*scheme}.bytes(each.rows(), each.columns());
  std::string line = "bytes:";
  for (const auto& [kind, size] : bytes)
    line += text("  %s %llu", std::string{klens::name_of(kind)}.c_str(), static_cast<unsigned long long>(size));
  return line + "\n";
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
  table lines{"lrrrrrr"};
  for (const auto& each : rows) lines.add(each);
  lines.print(stdout);
  std::printf("+-: standard error of the perplexity's difference to that of the untouched model\n\n");
}

}  // namespace

void plan(const plan_arguments& arguments) {
  check_request(arguments);
  for (const auto& each : {arguments.output, arguments.html})
    if (!each.empty()) klens::atomic_file{each};  // one that cannot be written is better known before the work
  plan_exports exports{arguments.exports};
  const site_options kept{.context = arguments.context, .sequences = arguments.concurrent};
  std::optional<listed_version> second;
  if (!arguments.second_opinion.empty()) {
    plan_inputs inputs{arguments.run, arguments.second_opinion, kept};
    const decision other = decide(inputs, arguments);
    second = {"second opinion", other.chosen.bytes, klens::version_of(other.units, other.chosen.chosen)};
  }

  plan_inputs inputs{arguments.run, arguments.scores, kept};
  if (inputs.context != 0 && !arguments.exports.empty())
    throw klens::argument_error{
        "--export: the plan has keys, values or states, which no target stores; plan weights alone from scores "
        "of --sites weights"};
  const decision made = decide(inputs, arguments);
  klens::plan found = klens::make_plan(arguments.allocator, made.units, made.chosen, made.budget_bytes, {}, arguments.metric);
  found.unknown = made.unknown;
  std::optional<raced_plan> raced;
  std::optional<klens::model_version> first;
  if (arguments.candidates > 0) {
    raced = race_plans(inputs, arguments, found, made.units, made.chosen);
    first = klens::version_of(found);
    raced->won.unknown = found.unknown;
    std::swap(found, raced->won);
  }
  const std::optional<double> predicted = inputs.predicted_kl(found);
  if (predicted) found.predicted["kl"] = *predicted;

  if (inputs.context != 0) found.at_run_time = {inputs.context, arguments.concurrent};

  exports.prepare(found, inputs, arguments.run.model);

  std::vector<listed_version> listed;
  const std::string untouched = inputs.untouched(arguments.rules);
  for (const std::string& each : baseline_names(inputs.schemes, untouched))
    listed.push_back(uniform(each, made.units, inputs.layers, untouched));
  if (first) listed.push_back({"first plan", raced->won.bytes, *first});
  const std::size_t baselines = listed.size();
  if (second) listed.push_back(*second);
  listed.push_back({"plan", found.bytes, klens::version_of(found)});
  std::vector<klens::model_version> versions;
  for (const listed_version& each : listed) versions.push_back(each.version);
  const std::vector<klens::measured_version> measured = inputs.measure(versions);
  const klens::measured_version& own = measured.back();
  for (std::size_t b = 0; b < baselines; ++b)
    found.baselines[listed[b].name] = {listed[b].bytes, measured[b + 1].kl.mean(), measured[b + 1].perplexity()};
  found.measured = {own.kl.mean(),      own.perplexity(), own.top1.mean(),
                    own.kl.positions(), own.kl_error(),   own.perplexity_error(measured[0]),
                    own.top1_error()};

  const std::string headline =
      text("%s plan of %zu layers by %s: %llu bytes, budget %llu; held-out: %s (%zu positions)", arguments.allocator.c_str(),
           found.layers.size(), arguments.metric.c_str(), static_cast<unsigned long long>(found.bytes),
           static_cast<unsigned long long>(found.budget_bytes), size_text(inputs.held_out).c_str(), own.kl.positions());
  const std::string run_time = inputs.context == 0
                                   ? ""
                                   : text("; weights and the run-time memory of %zu sequence%s of %zu tokens",
                                          arguments.concurrent, arguments.concurrent == 1 ? "" : "s", inputs.context);
  const auto rows = rows_of(listed, measured, static_cast<double>(klens::weights_of(made.units)));
  std::printf("%s%s\n\n", headline.c_str(), run_time.c_str());
  print_table(rows);
  if (inputs.context != 0) std::printf("%s", memory_text(found, inputs.layers).c_str());
  if (!inputs.not_kept.empty())
    std::printf("inputs of products take no memory from one token to the next: the %zu that were scored stay floats\n",
                inputs.not_kept.size());
  for (const listed_version& each : listed) std::printf("%s", remark_on(each, untouched).c_str());
  std::map<std::string, std::size_t> counts;
  for (const klens::layer_scheme& each : found.layers) ++counts[each.scheme];
  std::printf("layers:");
  for (const auto& [scheme, count] : counts) std::printf("  %zu %s", count, scheme.c_str());
  if (predicted && *predicted > 0)
    std::printf("\nkl predicted %.5g, measured %.5g: measured / predicted %.3f", *predicted, own.kl.mean(),
                own.kl.mean() / *predicted);
  std::printf("\n%s", made.remarks.c_str());
  if (raced) std::printf("%s%s", raced->report.c_str(), gain_text(measured[baselines], own).c_str());
  if (made.greedy && (!raced || raced->what.empty()))
    std::printf("%s%s\n", greedy_text(made.chosen, *made.greedy).c_str(), proof_text(found, made.chosen.gap).c_str());
  std::printf("%s", remarks_on(found.unknown, &found).c_str());
  exports.write(found, inputs, arguments.run.model);
  if (!arguments.output.empty()) {
    klens::write_plan(arguments.output, found);
    std::printf("plan written to %s\n", arguments.output.c_str());
  }
  if (!arguments.html.empty()) {
    klens::write_file(arguments.html, plan_page(found, inputs.layers, inputs.scored.result, rows,
                                                arguments.run.model.filename().string(), headline));
    std::printf("page written to %s\n", arguments.html.c_str());
  }
}

}  // namespace programs
