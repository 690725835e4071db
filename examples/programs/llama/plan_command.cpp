#include "plan_command.hpp"

#include <algorithm>
#include <cstdio>
#include <klens/io/atomic_file.hpp>
#include <klens/io/scores_json.hpp>
#include <klens/plan/exact.hpp>
#include <klens/plan/measure.hpp>
#include <klens/weight_guard.hpp>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "engine.hpp"
#include "fingerprint.hpp"
#include "format_packer.hpp"
#include "ggml_format.hpp"
#include "gguf_file.hpp"
#include "gguf_model.hpp"
#include "importance.hpp"
#include "llama_tokens.hpp"
#include "plan_remarks.hpp"
#include "quantized_file.hpp"
#include "score_table.hpp"
#include "staged_forward.hpp"
#include "staged_model.hpp"
#include "terminal.hpp"
#include "token_file.hpp"
#include "token_sketch.hpp"

namespace llama_adapter {
namespace {

void check_request(const plan_arguments& arguments) {
  if ((arguments.limit.size.empty() ? 0 : 1) + (arguments.limit.bpw.empty() ? 0 : 1) + (arguments.limit.like.empty() ? 0 : 1) !=
      1)
    throw klens::argument_error{"give one of --size, --bpw and --like"};
  if (!arguments.limit.like.empty()) (void)mixture_of(arguments.limit.like);
  if (arguments.of_llama.imatrix.empty())
    for (const std::optional<ggml_type>& each : {arguments.rules.mixture.output, arguments.rules.mixture.token_embedding})
      if (each && ggml_format{*each}.needs_importance())
        throw klens::argument_error{"the type " + ggml_format::name_of(*each) +
                                    " needs an importance matrix; give one with --imatrix"};
  if (arguments.rules.floor && !(*arguments.rules.floor > 0))
    throw klens::argument_error{"--floor: wants a KL above 0, in nats/token"};
  const bool has_tokens = !arguments.run.tokens.file.empty() || !arguments.of_llama.text.empty();
  if (arguments.verify && (arguments.output.empty() || arguments.quantized.empty() || !has_tokens))
    throw klens::argument_error{"--verify: wants --output, --quantized and held-out --tokens, --file or --generate"};
  if (!arguments.output.empty()) klens::atomic_file{arguments.output};
  if (!arguments.verify) return;
  std::error_code missing;
  if (std::filesystem::equivalent(arguments.quantized, arguments.run.model, missing))
    throw klens::argument_error{"--quantized: is the model itself; name another file"};
  klens::atomic_file{arguments.quantized};
  expect_tools(arguments.tools);
}

klens::scores_file read_scores_of(const std::filesystem::path& scores, const gguf_file& file,
                                  std::span<const std::string> tensors) {
  if (is_score_table(scores)) {
    klens::scores_file table;
    table.result = read_score_table(scores, file, tensors);
    for (const std::string& each : table.result.remarks) std::printf("! %s\n", each.c_str());
    return table;
  }
  klens::scores_file scored = klens::read_scores(scores);
  if (programs::fingerprint_of_files({file.path()}) != scored.origin.model_fingerprint)
    throw klens::file_error{scores.string() + ": has the scores of another model, " + scored.origin.model_path +
                            "; rank the tensors of " + file.path().string()};
  return scored;
}

// The matrix that the scores are for, and no other one: a plan would promise what llama-quantize does not make.
void expect_importance(const klens::scores& scores, const std::optional<importance_matrix>& given) {
  std::string wanted;
  for (const std::string& each : scores.remarks)
    if (each.starts_with(importance_remark)) wanted = each.substr(std::string_view{importance_remark}.size());
  const std::string name = given ? given->name() : "";
  if (wanted != name)
    throw klens::argument_error{wanted.empty()
                                    ? "--imatrix: the scores were made without one; rank with it, or leave it away"
                                    : "the scores are for the importance matrix " + wanted + "; give it with --imatrix"};
}

struct version {
  std::string name;
  tensor_types types;
  std::uint64_t bytes = 0;
  std::string cannot_store{};  // a tensor whose weights its types cannot hold; empty: none
};

klens::model_version schemes_of(const tensor_types& types, std::span<const klens::layer> layers, const gguf_file& file) {
  klens::model_version schemes;
  for (const klens::layer& each : layers) {
    const auto type = types.find(each.name);
    if (type != types.end() && type->second != file.at(each.name).type)
      schemes.emplace(each.name, klens::scheme{ggml_format{type->second}});
  }
  return schemes;
}

bool can_store(const klens::scheme& storage, klens::layer& layer) {
  try {
    klens::weight_guard guard{layer};
    (void)guard.apply(storage);
    return true;
  } catch (const klens::numeric_error&) {
    return false;
  }
}

// The KL of each version; nothing where it cannot be made.
std::vector<std::optional<double>> measure_with(std::vector<version>& versions, const auto& forward,
                                                std::vector<klens::layer>& layers, const gguf_file& file,
                                                const programs::token_set& tokens, const programs::run_arguments& run) {
  const std::size_t per_batch = run.sequences_per_batch();
  std::vector<klens::model_version> schemes;
  for (version& each : versions) {
    const klens::model_version made = schemes_of(each.types, layers, file);
    for (klens::layer& layer : layers)
      if (const auto own = made.find(layer.name); own != made.end() && !can_store(own->second, layer))
        each.cannot_store = layer.name;
    if (each.cannot_store.empty()) schemes.push_back(made);
  }
  const std::vector<klens::measured_version> measured =
      klens::measure_versions(forward, layers, schemes,
                              {.batches = (tokens.sequences + per_batch - 1) / per_batch,
                               .sequence_length = tokens.length,
                               .counted = tokens.counted(),
                               .threads = run.threads});
  std::vector<std::optional<double>> kl;
  std::size_t next = 1;  // after the untouched model
  for (const version& each : versions)
    kl.push_back(each.cannot_store.empty() ? std::optional{measured[next++].kl.mean()} : std::nullopt);
  return kl;
}

// In stages, of weights that stay as they are stored; a model that cannot be cut whole, in floats.
std::vector<std::optional<double>> measure(std::vector<version>& versions, gguf_model& model, const gguf_file& file,
                                           const programs::token_set& tokens, const programs::run_arguments& run,
                                           const run_settings& settings, const importance_matrix* importance) {
  const std::size_t per_batch = run.sequences_per_batch();
  std::optional<staged_model> staged;
  try {
    staged.emplace(model, format_packer::with(importance), settings, tokens.batch(0, 1));
  } catch (const uncut_error& caught) {
    if (importance) throw klens::error{std::string{"--imatrix: this model cannot be run in stages: "} + caught.what()};
    gguf_model whole{file, arithmetic::floats, settings};
    std::vector<klens::layer> layers = whole.layers();
    const auto forward = [&](std::size_t batch) { return whole.logits(tokens.batch(batch, per_batch), tokens.length); };
    return measure_with(versions, forward, layers, file, tokens, run);
  }
  std::vector<klens::layer> layers = staged->layers();
  const staged_forward stages{*staged, tokens, per_batch, {0, tokens.length}};
  const auto forward = [&](std::size_t batch) {
    staged_forward::state at = stages.begin(batch);
    for (std::size_t stage = 0; stage < stages.stages(); ++stage) stages.advance(at, stage);
    return stages.logits(at);
  };
  return measure_with(versions, forward, layers, file, tokens, run);
}

programs::token_set read_held_out(const plan_arguments& arguments, const gguf_model& model, const klens::scores_file& scored) {
  programs::token_set tokens = tokens_for(arguments.run, arguments.of_llama, model);
  if (tokens.length < 4) throw klens::argument_error{"--context: wants at least 4 tokens"};
  if (arguments.verify && !tokens.roles.empty())
    throw klens::argument_error{
        "--verify: llama-perplexity would count padding and labels of -100; give held-out tokens without attention_mask and "
        "labels, or leave --verify away"};
  if (programs::find_overlap(scored.origin.sketch, tokens.without_padding()))
    throw klens::argument_error{
        "the held-out tokens overlap with those that were scored; choose others (--first, another file or another "
        "--generate-seed)"};
  return tokens;
}

}  // namespace

void plan(const plan_arguments& arguments) {
  check_request(arguments);
  start_engine();
  gguf_file file{arguments.run.model};
  const run_settings settings{arguments.run.threads, arguments.of_llama.gpu_layers};
  std::optional<importance_matrix> importance;
  if (!arguments.of_llama.imatrix.empty()) importance.emplace(arguments.of_llama.imatrix, file).announce_to(file);
  gguf_model model{file, arithmetic::stored, settings};
  std::vector<std::string> tensors;
  for (const paged_matrix& each : model.stored_matrices()) tensors.push_back(each.name);
  const klens::scores_file scored = read_scores_of(arguments.scores, file, tensors);
  if (!is_score_table(arguments.scores)) expect_importance(scored.result, importance);
  const bool has_tokens = !arguments.run.tokens.file.empty() || !arguments.of_llama.text.empty();
  const programs::token_set held_out = has_tokens ? read_held_out(arguments, model, scored) : programs::token_set{};

  if (!importance && !arguments.limit.like.empty())
    for (const auto& [name, type] : model.types_in(mixture_of(arguments.limit.like), arguments.rules.mixture))
      if (ggml_format{type}.needs_importance())
        throw klens::argument_error{"--like " + arguments.limit.like +
                                    ": llama-quantize makes it with an importance matrix only; give one with --imatrix"};
  const klens::scored_units all =
      units_of(scored.result, tensors, file, model.types_by(arguments.rules.mixture), arguments.rules);
  const std::vector<klens::plan_unit>& units = all.units;
  const std::uint64_t budget = budget_of(arguments.limit, file, model, arguments.rules.mixture, units);
  klens::allocation chosen;
  try {
    chosen = klens::exact{}(units, budget);
  } catch (const klens::argument_error& caught) {
    throw klens::argument_error{programs::with_unknown(caught.what(), all.unknown)};
  }
  klens::plan found = klens::make_plan("exact", units, chosen, budget);
  found.unknown = all.unknown;
  const tensor_types types = types_of(units, chosen, file);
  const std::uint64_t bytes = file.file_bytes_as(types);

  std::vector<version> versions;
  for (const std::string& name : {std::string{"Q8_0"}, std::string{"Q4_K_M"}, std::string{"Q4_0"}, arguments.limit.like}) {
    if (name.empty() || std::ranges::find(versions, name, &version::name) != versions.end()) continue;
    const tensor_types made = model.types_in(mixture_of(name), arguments.rules.mixture);
    versions.push_back({name, made, file.file_bytes_as(made)});
  }
  versions.push_back({"plan", types, bytes});
  std::vector<std::optional<double>> kl;
  if (has_tokens) kl = measure(versions, model, file, held_out, arguments.run, settings, importance ? &*importance : nullptr);

  std::printf("plan for %s: %zu tensors, %llu bytes, kl predicted %.5g nats/token\n%s\n\n", file.path().filename().c_str(),
              units.size(), static_cast<unsigned long long>(bytes), chosen.damage,
              programs::proof_text(found, chosen.gap).c_str());
  programs::table lines{has_tokens ? "lrrr" : "lrr"};
  std::vector<std::string> heading{"file", "bytes", "bits/weight"};
  if (has_tokens) heading.emplace_back("kl held out");
  lines.add(heading);
  for (std::size_t v = 0; v < versions.size(); ++v) {
    const version& each = versions[v];
    const auto of_tensors = static_cast<double>(each.bytes - file.metadata_bytes());
    std::vector<std::string> cells{each.name, std::to_string(each.bytes),
                                   programs::text("%.3f", 8 * of_tensors / static_cast<double>(file.weights()))};
    if (has_tokens) cells.push_back(kl[v] ? programs::text("%.5g", *kl[v]) : "-");
    lines.add(cells);
  }
  lines.print(stdout);
  if (has_tokens) std::printf("held out: %s (%zu positions)\n", programs::size_text(held_out).c_str(), held_out.positions());
  for (const version& each : versions)
    if (!each.cannot_store.empty())
      std::printf("%s cannot store the weights of %s, so it was not measured\n", each.name.c_str(), each.cannot_store.c_str());
  std::map<std::string, std::size_t> counts;
  for (const auto& [name, type] : types) ++counts[ggml_format::name_of(type)];
  std::printf("tensors:");
  for (const auto& [type, count] : counts) std::printf("  %zu %s", count, type.c_str());
  std::printf("\n%s", programs::remarks_on(found.unknown, &found).c_str());
  if (arguments.output.empty()) return;

  klens::write_file(arguments.output, type_file_text(types));
  const std::filesystem::path target = arguments.quantized.empty() ? "OUTPUT.gguf" : arguments.quantized;
  const quantize_request request{arguments.output, arguments.of_llama.imatrix, target};
  std::printf("types written to %s; use: llama-quantize %s\n", arguments.output.c_str(),
              quantize_arguments(file, request).c_str());
  if (!arguments.verify) return;
  const quantized_file made = make_and_measure(file, request, arguments.tools, held_out, settings);
  std::printf("llama-quantize wrote %llu bytes; predicted were %llu\n", static_cast<unsigned long long>(made.bytes),
              static_cast<unsigned long long>(bytes));
  std::printf(
      "kl of that file, run as llama.cpp runs it, on the second halves of the sequences: %.6g by klens from float logits, "
      "%.6g by llama-perplexity from 16-bit ones\n",
      made.klens_kl, made.tool_kl);
}

}  // namespace llama_adapter
