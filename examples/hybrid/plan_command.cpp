#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <functional>
#include <klens/detail/weight_guard.hpp>
#include <klens/io/json.hpp>
#include <klens/io/plan_json.hpp>
#include <klens/metric/kl.hpp>
#include <klens/metric/measure.hpp>
#include <klens/metric/top1.hpp>
#include <klens/plan/budget.hpp>
#include <klens/plan/exact.hpp>
#include <klens/plan/greedy.hpp>
#include <klens/plan/plan.hpp>
#include <klens/plan/share.hpp>
#include <klens/plan/threshold.hpp>
#include <map>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine/model.hpp"
#include "fingerprint.hpp"
#include "hybrid_forward.hpp"
#include "terminal.hpp"

namespace hybrid {
namespace {

using named_schemes = std::map<std::string, std::string>;  // layer -> scheme

// One unit a layer, with what was scored and with fp16: full precision, to which nothing is lost.
std::vector<klens::plan_unit> units_of(const klens::scores& scores, const std::string& metric) {
  const std::size_t m = scores.index_of(metric);
  if (scores.metrics[m].unit == "dB" || !scores.metrics[m].higher_is_worse)
    throw klens::argument_error{"--metric " + metric + ": its damages do not add up over layers; use kl or mse"};
  std::vector<klens::plan_unit> units;
  for (const klens::layer_score& each : scores.candidates) {
    if (each.result == klens::outcome::not_measured) continue;
    auto unit = std::ranges::find_if(units, [&](const auto& known) { return known.layers.front() == each.layer; });
    if (unit == units.end()) {
      units.push_back({{each.layer}, each.rows * each.columns, {{{"fp16"}, 2 * each.rows * each.columns, 0}}});
      unit = std::prev(units.end());
    }
    if (each.scheme != "fp16") unit->choices.push_back({{each.scheme}, each.bytes, each.metrics[m].mean});
  }
  return units;
}

klens::allocation allocate(const std::string& name, const std::vector<klens::plan_unit>& units, std::uint64_t budget) {
  if (name == "exact") return klens::exact{}(units, budget);
  if (name == "greedy") return klens::greedy{}(units, budget);
  if (name == "threshold") return klens::threshold{}(units, budget);
  if (name == "share") return klens::share{}(units, budget);
  throw klens::argument_error{"unknown allocator '" + name + "'; known are exact, greedy, threshold, share"};
}

void refuse_scored_tokens(const klens::scores_file& scored, const token_choice& held_out, const token_set& tokens) {
  const std::string refusal = held_out.file.string() + ": these tokens were used for scoring; measure on others (--first)";
  if (tokens.fingerprint() == scored.origin.tokens_fingerprint) throw klens::file_error{refusal};
  std::error_code none;
  if (!std::filesystem::equivalent(held_out.file, scored.origin.tokens_file, none) || none) return;
  const std::uint64_t end = scored.origin.first + scored.result.positions;
  if (held_out.first < end && scored.origin.first < held_out.first + tokens.tokens.size()) throw klens::file_error{refusal};
}

// Quantizes the named layers as long as it lives.
class applied_plan {
 public:
  applied_plan(std::vector<klens::layer>& layers, const named_schemes& schemes) {
    for (klens::layer& each : layers)
      if (const auto found = schemes.find(each.name); found != schemes.end() && found->second != "fp16")
        (void)guards_.emplace_back(each).perturb(klens::scheme{found->second});
  }

 private:
  std::deque<klens::detail::weight_guard> guards_;
};

struct measured_model {
  klens::totals<klens::kl> kl{klens::kl{}};
  klens::totals<klens::top1> top1{klens::top1{}};
  double nll = 0;
  double next_tokens = 0;
  [[nodiscard]] double perplexity() const { return std::exp(nll / next_tokens); }
};

klens::matrix<float> logits_of(const hybrid_forward& forward, std::size_t batch) {
  auto at = forward.begin(batch);
  for (std::size_t stage = 0; stage < forward.stages(); ++stage) forward.advance(at, stage);
  return forward.logits(at);
}

void add_batch(measured_model& to, const klens::matrix<float>& reference, const klens::matrix<float>& observed,
               std::span<const std::int32_t> tokens, std::size_t length, std::size_t threads) {
  const auto [kl, top1] = klens::measure(reference, observed, {.threads = threads}, klens::kl{}, klens::top1{});
  to.kl.merge(kl);
  to.top1.merge(top1);
  for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
    if ((t + 1) % length == 0) continue;
    const auto row = klens::row(observed, static_cast<Eigen::Index>(t));
    to.nll += klens::describe_reference(row).log_sum_exp - static_cast<double>(row[static_cast<std::size_t>(tokens[t + 1])]);
    to.next_tokens += 1;
  }
}

// The untouched model first, then each set of schemes, all on the same tokens.
std::vector<measured_model> measure_models(const hybrid_forward& forward, std::vector<klens::layer>& layers,
                                           const std::vector<named_schemes>& models, const token_set& tokens,
                                           std::size_t threads) {
  std::vector<measured_model> measured(models.size() + 1);
  progress_line line;
  for (std::size_t batch = 0, first = 0; batch < forward.batches(); ++batch) {
    const klens::matrix<float> reference = logits_of(forward, batch);
    const auto rows = static_cast<std::size_t>(reference.rows());
    const std::span<const std::int32_t> own = std::span(tokens.tokens).subspan(first, rows);
    add_batch(measured[0], reference, reference, own, tokens.length, threads);
    for (std::size_t m = 0; m < models.size(); ++m) {
      const applied_plan quantized{layers, models[m]};
      add_batch(measured[m + 1], reference, logits_of(forward, batch), own, tokens.length, threads);
    }
    first += rows;
    line.show(text("measuring: batch %zu/%zu", batch + 1, forward.batches()));
  }
  return measured;
}

}  // namespace

void plan(const plan_arguments& arguments) {
  const klens::scores_file scored = klens::read_scores(arguments.scores);
  if (!arguments.output.empty()) klens::atomic_file{arguments.output};
  model loaded = model::load(arguments.run.model);
  if (fingerprint_of_folder(arguments.run.model) != scored.origin.model_fingerprint)
    throw klens::file_error{arguments.scores.string() + ": scores of another model, " + scored.origin.model_path};

  const std::vector<klens::plan_unit> units = units_of(scored.result, arguments.metric);
  std::uint64_t weights = 0;
  for (const klens::plan_unit& each : units) weights += each.weights;
  const std::uint64_t budget = klens::parse_budget(arguments.budget, weights, 2 * weights);
  const klens::allocation decided = allocate(arguments.allocator, units, budget);
  klens::plan found = klens::make_plan(arguments.allocator, units, decided, budget, {}, arguments.metric);

  // What stands beside the plan: every scheme for all layers that it was scored for.
  std::vector<std::string> names{"plan"};
  std::vector<named_schemes> models(1);
  std::vector<std::uint64_t> sizes{found.bytes};
  for (const klens::layer_scheme& each : found.layers) models[0][each.layer] = each.scheme;
  for (const klens::layer_score& each : scored.result.candidates) {
    auto at = static_cast<std::size_t>(std::ranges::find(names, each.scheme) - names.begin());
    if (at == names.size()) {
      names.push_back(each.scheme);
      models.emplace_back();
      sizes.push_back(2 * weights);
    }
    models[at][each.layer] = each.scheme;
    sizes[at] -= 2 * each.rows * each.columns - each.bytes;
  }
  std::vector<klens::layer> layers;
  for (const weight& each : loaded.weights(true)) layers.emplace_back(each.name, each.values);
  for (const weight& each : loaded.weights())
    if (std::ranges::find(layers, each.name, &klens::layer::name) == layers.end()) layers.emplace_back(each.name, each.values);

  const token_set tokens = read_tokens(arguments.run.tokens, loaded.vocabulary(), 256, 64);
  refuse_scored_tokens(scored, arguments.run.tokens, tokens);
  const hybrid_forward forward{loaded, tokens, arguments.run.sequences_per_batch(), arguments.run.threads};
  const std::vector<measured_model> measured = measure_models(forward, layers, models, tokens, arguments.run.threads);

  table lines{"lrrrrr"};
  lines.add({"model", "bytes", "bits/weight", "kl", "ppl", "top1"});
  const auto row_of = [&](const std::string& name, std::uint64_t bytes, const measured_model& of) {
    lines.add({name, text("%llu", static_cast<unsigned long long>(bytes)),
               text("%.3f", 8 * static_cast<double>(bytes) / static_cast<double>(weights)), text("%.5g", of.kl.mean()),
               text("%.4f", of.perplexity()), text("%.4f", of.top1.mean())});
  };
  row_of("fp16", 2 * weights, measured[0]);
  found.baselines["fp16"] = {2 * weights, 0, measured[0].perplexity()};
  for (std::size_t i = 1; i < names.size(); ++i) {
    row_of(names[i], sizes[i], measured[i + 1]);
    found.baselines[names[i]] = {sizes[i], measured[i + 1].kl.mean(), measured[i + 1].perplexity()};
  }
  row_of("plan", found.bytes, measured[1]);
  found.measured = {measured[1].kl.mean(), measured[1].perplexity(), measured[1].top1.mean(), tokens.tokens.size()};
  std::map<std::string, std::size_t> counts;
  for (const klens::layer_scheme& each : found.layers) ++counts[each.scheme];
  std::printf("%s plan under %llu bytes, by %s; held-out: %zu sequences of %zu tokens\n\n", arguments.allocator.c_str(),
              static_cast<unsigned long long>(budget), arguments.metric.c_str(), tokens.sequences, tokens.length);
  lines.print(stdout);
  std::printf("\nlayers:");
  for (const auto& [scheme, count] : counts) std::printf("  %zu %s", count, scheme.c_str());
  const double predicted = found.predicted.at(arguments.metric);
  std::printf("\npredicted %s %.5g", arguments.metric.c_str(), predicted);
  if (arguments.metric == "kl") std::printf("; measured / predicted %.3f", measured[1].kl.mean() / predicted);
  std::printf("\n");
  if (!arguments.output.empty()) {
    klens::write_plan(arguments.output, found);
    std::printf("plan written to %s\n", arguments.output.c_str());
  }
}

}  // namespace hybrid
