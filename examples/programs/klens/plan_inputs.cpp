#include "plan_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <klens/io/inputs_file.hpp>
#include <klens/plan/name_pattern.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/gather_inputs.hpp>
#include <map>
#include <random>
#include <set>
#include <string_view>
#include <utility>

#include "fingerprint.hpp"
#include "load_model.hpp"
#include "model_limits.hpp"
#include "model_sampler.hpp"
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

// Takes the inputs of products out of the scores: nobody keeps them, so no budget has room to give or take. Their names.
std::vector<std::string> take_out_inputs(klens::scores& scores) {
  std::vector<std::string> names;
  for (const klens::layer_score& each : scores.candidates)
    if (each.site == klens::site_kind::activations && std::ranges::find(names, each.layer) == names.end())
      names.push_back(each.layer);
  std::erase_if(scores.candidates, [](const auto& each) { return each.site == klens::site_kind::activations; });
  return names;
}

bool is_at_run_time(const klens::layer_score& each) { return each.site != klens::site_kind::weights; }

// What the model keeps at run time as the scores have it.
site_options kept_as_scored(site_options kept, const klens::scores_file& scored) {
  if (std::ranges::none_of(scored.result.candidates, is_at_run_time)) {
    if (kept.context != 0 || kept.sequences != 1)
      throw klens::argument_error{
          "--context and --concurrent are of what the model keeps while it runs, and the scores have nothing "
          "of that; rank it with --sites"};
    return kept;
  }
  if (kept.context == 0) kept.context = scored.origin.context;
  for (const klens::layer_score& each : scored.result.candidates) {
    kept.error_feedback = kept.error_feedback || each.note == feedback_note;
    if (each.note == by_channel_note(each.columns)) kept.kv_by_channel = each.columns;
  }
  return kept;
}

// The layers of the model, fused ones in parts where these were scored, and small weights and what is kept at run time that were.
std::vector<klens::layer> layers_as_scored(model& of, const klens::scores& scores, const site_options& kept) {
  std::set<std::string_view> open;
  for (const klens::layer_score& each : scores.candidates) open.insert(each.layer);
  const std::vector<weight> parts = of.weights(true);
  std::vector<klens::layer> layers;
  const auto add = [&](const weight& each) {
    layers.push_back(each.as_layer());
    layers.back().kind = klens::kind_of(each.name);
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
  constexpr klens::site_kind at_run_time[] = {klens::site_kind::kv, klens::site_kind::state, klens::site_kind::conv};
  if (std::ranges::any_of(scores.candidates, is_at_run_time))  // else no context is known, which their sizes need
    for (const klens::layer& each : of.sites(at_run_time, kept))
      if (open.erase(each.name) > 0) layers.push_back(each);
  if (!open.empty())
    throw klens::argument_error{"the scores have a layer " + std::string{*open.begin()} +
                                ", which the model has not; rank the layers again"};
  return layers;
}

// What the schemes of some scores know of the layers' inputs.
void read_statistics(std::vector<klens::layer>& layers, const klens::scores_file& scored, const std::filesystem::path& file) {
  std::vector<klens::scheme> schemes;
  for (const std::string& each : scored.result.schemes()) schemes.emplace_back(each);
  const klens::input_need needs = klens::detail::most_needed(schemes);
  if (needs == klens::input_need::nothing) return;
  if (file.empty())
    throw klens::argument_error{"the scores have schemes that look at the inputs of layers (" +
                                std::ranges::find(schemes, needs, &klens::scheme::needs)->name() +
                                "); give the statistics of the scan: --statistics FILE, here and to klens rank"};
  std::vector<klens::layer> known;
  for (const klens::layer& each : layers)
    if (each.site == klens::site_kind::weights &&
        std::ranges::any_of(scored.result.candidates, [&](const auto& one) { return one.layer == each.name; }))
      known.push_back(each);
  klens::read_inputs(file, known, needs, {{"model", scored.origin.model_fingerprint}});
  for (const klens::layer& each : known) std::ranges::find(layers, each.name, &klens::layer::name)->inputs = each.inputs;
}

token_set read_held_out(const run_arguments& run, const model& of, const klens::scores_file& scored) {
  const token_choice& choice = run.tokens;
  token_set tokens = tokens_for(sampler_of(of, run.threads), choice, 256, 64);
  expect_next_tokens(tokens);
  const auto refuse = [&](const std::string& what) {
    throw klens::file_error{choice.file.string() + ": " + what +
                            " were used for scoring; measure on others (--first, --sequences or another file)"};
  };
  if (tokens.fingerprint() == scored.origin.tokens_fingerprint) refuse("these tokens");
  if (const auto at = find_overlap(scored.origin.sketch, tokens.without_padding()))
    refuse("its tokens from input_ids[" + std::to_string(tokens.place_in_file(*at)) + "] on");
  return tokens;
}

}  // namespace

plan_inputs::plan_inputs(const run_arguments& run, const std::filesystem::path& scores, const site_options& kept)
    : loaded{load_model(run)},
      scored{read_scores_of(scores, run.model)},
      layers{},
      schemes{scored.result.schemes()},
      held_out{read_held_out(run, loaded, scored)},
      run_{run} {
  not_kept = take_out_inputs(scored.result);
  schemes = scored.result.schemes();
  const site_options as_scored = kept_as_scored(kept, scored);
  context = as_scored.context;
  layers = layers_as_scored(loaded, scored.result, as_scored);
  remark_on_length(run.model, held_out);
  read_statistics(layers, scored, run.statistics);
}

std::string plan_inputs::untouched(const plan_rules& rules) const {
  std::vector<klens::name_pattern> excluded;
  for (const std::string& each : rules.exclude) excluded.emplace_back(each);
  std::vector<klens::layer> planned;
  for (const klens::layer& each : layers)
    if (std::ranges::none_of(excluded, [&](auto& pattern) { return pattern.matches(each.name); })) planned.push_back(each);
  return klens::holding_scheme(planned).name();
}

klens::scored_units plan_inputs::units(const std::string& metric, const plan_rules& rules, std::uint64_t seed) const {
  std::mt19937_64 random{seed};
  std::map<std::string_view, double> factors;
  for (const klens::layer& layer : layers) {
    const double draw = static_cast<double>(random() >> 11) * 0x1p-53;
    factors[layer.name] = metric == "random" ? std::pow(10000.0, draw) : 1;
  }
  klens::unit_options options{.metric = metric, .keep = rules.exclude, .assume_harmless = rules.assume_harmless};
  if (metric == "weight_sqnr")
    options.damage = [](const klens::layer_score& of) { return std::pow(10.0, -of.weight_sqnr_db / 10); };
  if (metric == "size" || metric == "random")  // an error falls four times with each bit
    options.damage = [&](const klens::layer_score& of) {
      return factors.at(of.layer) *
             std::pow(0.25, 8 * static_cast<double>(of.bytes) / static_cast<double>(of.rows * of.columns));
    };
  if (std::ranges::any_of(scored.result.candidates, is_at_run_time))  // kinds of sites may have schemes of their own
    options.offer = [&](const klens::plan_layer& of, const std::string& name) -> std::optional<klens::scheme_offer> {
      const klens::scheme storage{name};
      if (scored.result.find(of.name, name) == nullptr || !storage.stores(of.columns)) return std::nullopt;
      return klens::scheme_offer{storage.name(), storage.bytes(of.rows, of.columns)};
    };
  return klens::units_of(scored.result, layers, options);
}

std::optional<double> plan_inputs::predicted_kl(const klens::plan& of) const {
  const auto& metrics = scored.result.metrics;
  const auto kl = static_cast<std::size_t>(std::ranges::find(metrics, "kl", &klens::metric_info::name) - metrics.begin());
  if (kl == metrics.size()) return std::nullopt;
  double sum = 0;
  for (const klens::layer_scheme& each : of.layers) {
    const klens::layer_score* const candidate = scored.result.find(each.layer, each.scheme);
    if (candidate && klens::has_damage(*candidate)) sum += candidate->metrics[kl].mean;
  }
  return sum;
}

std::vector<klens::measured_version> plan_inputs::measure(const std::vector<klens::model_version>& versions) {
  return measure_versions(loaded, layers, versions, held_out, run_.sequences_per_batch(), run_.threads);
}

std::pair<std::string, std::string> split_assignment(const std::string& text, const char* option) {
  const std::size_t at = text.rfind('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size())
    throw klens::argument_error{std::string{option} + " '" + text + "': something must stand before and after a ="};
  return {text.substr(0, at), text.substr(at + 1)};
}

klens::plan_constraints constraints_of(const plan_rules& rules) {
  klens::plan_constraints constraints{.together = rules.together, .together_by_kind = !rules.apart, .keep_out = rules.exclude};
  for (const std::string& each : rules.pins) {
    auto [pattern, scheme] = split_assignment(each, "--pin");
    constraints.pins.push_back({std::move(pattern), klens::scheme{scheme}.name()});
  }
  return constraints;
}

}  // namespace programs
