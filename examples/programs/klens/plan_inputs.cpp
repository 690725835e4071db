#include "plan_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <klens/plan/detail/name_pattern.hpp>
#include <klens/quant/scheme.hpp>
#include <map>
#include <random>
#include <set>
#include <string_view>
#include <utility>

#include "fingerprint.hpp"
#include "token_file.hpp"
#include "token_sketch.hpp"

namespace programs {
namespace {

klens::scores_file read_scores_of(const std::filesystem::path& file, const std::filesystem::path& folder) {
  klens::scores_file scored = klens::read_scores(file);
  if (fingerprint_of_folder(folder) != scored.origin.model_fingerprint)
    throw klens::file_error{file.string() + ": has the scores of another model, " + scored.origin.model_path +
                            "; rank the layers of " + folder.string()};
  return scored;
}

// The layers of the model, fused ones in parts where these were scored, and small weights that were.
std::vector<klens::layer> layers_as_scored(model& of, const klens::scores& scores) {
  std::set<std::string_view> open;
  for (const klens::layer_score& each : scores.candidates) open.insert(each.layer);
  const std::vector<weight> parts = of.weights(true);
  std::vector<klens::layer> layers;
  const auto add = [&](const weight& each) {
    layers.emplace_back(each.name, each.values);
    open.erase(each.name);
  };
  for (const weight& whole : of.weights()) {
    std::vector<const weight*> own;
    for (const weight& each : parts)
      if (each.name.starts_with(whole.name + "[")) own.push_back(&each);
    if (std::ranges::none_of(own, [&](const weight* each) { return open.contains(each->name); })) {
      add(whole);
    } else if (open.contains(whole.name)) {
      throw klens::argument_error{"the scores have " + whole.name + " as a whole and in parts; keep one of the two"};
    } else {
      for (const weight* each : own) add(*each);
    }
  }
  for (const weight& each : of.small_weights())
    if (open.contains(each.name)) add(each);
  if (!open.empty())
    throw klens::argument_error{"the scores have a layer " + std::string{*open.begin()} +
                                ", which the model has not; rank the layers again"};
  return layers;
}

token_set read_held_out(const token_choice& choice, std::size_t vocabulary, const klens::scores_file& scored) {
  token_set tokens = read_tokens(choice, vocabulary, 256, 64);
  expect_next_tokens(tokens);
  expect_no_masks(tokens, "plan");
  const auto refuse = [&](const std::string& what) {
    throw klens::file_error{choice.file.string() + ": " + what +
                            " were used for scoring; measure on others (--first, --sequences or another file)"};
  };
  if (tokens.fingerprint() == scored.origin.tokens_fingerprint) refuse("these tokens");
  if (const auto at = find_overlap(scored.origin.sketch, tokens.without_padding()))
    refuse("the tokens of sequence " + std::to_string(*at / tokens.length) + " from its " +
           std::to_string(*at % tokens.length) + ". on");
  return tokens;
}

// A number that rises with damage and adds up over layers.
double damage_of(const klens::layer_score& candidate, const std::string& metric, const klens::scores& scores, double factor) {
  if (metric == "weight_sqnr") return std::pow(10.0, -candidate.weight_sqnr_db / 10);
  if (metric == "size" || metric == "random")  // an error falls four times with each bit
    return factor *
           std::pow(0.25, 8 * static_cast<double>(candidate.bytes) / static_cast<double>(candidate.rows * candidate.columns));
  const std::size_t m = scores.index_of(metric);
  return scores.metrics[m].linear_damage(candidate.metrics[m].mean);
}

}  // namespace

plan_inputs::plan_inputs(const run_arguments& run, const std::filesystem::path& scores)
    : loaded{model::load(run.model)},
      scored{read_scores_of(scores, run.model)},
      layers{layers_as_scored(loaded, scored.result)},
      schemes{scored.result.schemes()},
      held_out{read_held_out(run.tokens, loaded.vocabulary(), scored)},
      run_{run} {}

std::vector<klens::plan_unit> plan_inputs::units(const std::string& metric, const plan_rules& rules, std::uint64_t seed) const {
  std::map<std::pair<std::string_view, std::string_view>, const klens::layer_score*> candidates;
  for (const klens::layer_score& each : scored.result.candidates)
    if (!candidates.try_emplace({each.layer, each.scheme}, &each).second)
      throw klens::argument_error{"the scores have " + each.layer + " as " + each.scheme + " twice; keep one of them"};
  std::vector<klens::detail::name_pattern> excluded;
  for (const std::string& each : rules.exclude) excluded.emplace_back(each);

  std::mt19937_64 random{seed};
  std::vector<klens::plan_unit> units;
  for (const klens::layer& layer : layers) {
    const double draw = static_cast<double>(random() >> 11) * 0x1p-53;
    const double factor = metric == "random" ? std::pow(10000.0, draw) : 1;
    const bool out = std::ranges::any_of(excluded, [&](auto& each) { return each.captures(layer.name).has_value(); });
    klens::plan_unit& unit = units.emplace_back();
    unit.layers = {layer.name};
    unit.weights = layer.rows() * layer.columns();
    bool lossless_fp16 = true;
    for (const std::string& name : schemes) {
      const klens::scheme scheme{name};
      if (!scheme.stores(layer.columns())) continue;
      const auto found = candidates.find({layer.name, name});
      const bool measured = found != candidates.end() && found->second->result != klens::outcome::not_measured;
      if (!measured && out) continue;
      if (!measured)
        throw klens::argument_error{"the scores have no " + layer.name + " as " + name +
                                    "; score it with klens rank, or leave the layer out with --exclude"};
      unit.choices.push_back(
          {{name}, scheme.bytes(layer.rows(), layer.columns()), damage_of(*found->second, metric, scored.result, factor)});
      lossless_fp16 = lossless_fp16 && name != "fp16";
    }
    if (lossless_fp16) unit.choices.push_back({{"fp16"}, 2 * unit.weights, 0});
  }
  return units;
}

std::optional<double> plan_inputs::predicted_kl(const klens::plan& of) const {
  const auto& metrics = scored.result.metrics;
  const auto kl = static_cast<std::size_t>(std::ranges::find(metrics, "kl", &klens::metric_info::name) - metrics.begin());
  if (kl == metrics.size()) return std::nullopt;
  double sum = 0;
  for (const klens::layer_scheme& each : of.layers)
    if (const klens::layer_score* candidate = scored.result.find(each.layer, each.scheme)) sum += candidate->metrics[kl].mean;
  return sum;
}

std::uint64_t plan_inputs::weights_of(const std::vector<klens::plan_unit>& units) {
  std::uint64_t weights = 0;
  for (const klens::plan_unit& each : units) weights += each.weights;
  return weights;
}

std::vector<measured_version> plan_inputs::measure(const std::vector<named_schemes>& versions) {
  return measure_versions(loaded, layers, versions, held_out, run_.sequences_per_batch(), run_.threads);
}

std::pair<std::string, std::string> split_assignment(const std::string& text, const char* option) {
  const std::size_t at = text.rfind('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size())
    throw klens::argument_error{std::string{option} + " '" + text + "': something must stand before and after a ="};
  return {text.substr(0, at), text.substr(at + 1)};
}

klens::plan_constraints constraints_of(const plan_rules& rules) {
  klens::plan_constraints constraints{.together = rules.together,
                                      .together_by_kind = !rules.apart,
                                      .keep_out = rules.exclude,
                                      .one_change_per_block = rules.one_change};
  for (const std::string& each : rules.pins) {
    auto [pattern, scheme] = split_assignment(each, "--pin");
    constraints.pins.push_back({std::move(pattern), klens::scheme{scheme}.name()});
  }
  return constraints;
}

}  // namespace programs
