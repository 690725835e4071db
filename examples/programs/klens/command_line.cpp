#include "command_line.hpp"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <klens/version.hpp>
#include <string>
#include <vector>

#include "explanatory_metrics.hpp"
#include "plan_export.hpp"

namespace {

constexpr const char* model_folder = "folder in Hugging Face format: config.json and safetensors";

void add_strict(CLI::App& command, bool& strict) {
  command.add_flag("--strict", strict, "refuse fields of config.json that klens does not know, instead of naming them");
}

void add_scores_options(CLI::App& command, std::filesystem::path& scores, std::uint64_t& seed, programs::plan_rules& rules) {
  command.add_option("--scores", scores, "scores.json of klens rank")->required();
  command.add_option("--seed", seed, "of the metric random")->capture_default_str();
  command.add_option("--pin", rules.pins, "PATTERN=SCHEME: these layers get this scheme")->expected(1)->take_all();
  command.add_option("--exclude", rules.exclude, "PATTERN: these layers stay as they are and count nowhere")
      ->expected(1)
      ->take_all();
  command
      .add_option("--assume-harmless", rules.assume_harmless,
                  "PATTERN: layers whose damage counts as 0 where the scores do not know it (a change that reached no logit)")
      ->expected(1)
      ->take_all();
  command
      .add_option("--together", rules.together,
                  "PATTERN: layers that match with the same captures share a scheme, besides q/k/v, gate/up and the experts of "
                  "a block, which do so")
      ->expected(1)
      ->take_all();
  command.add_flag("--apart", rules.apart, "q/k/v, gate/up and experts need not share a scheme");
}

void add_statistics(CLI::App& command, std::filesystem::path& file, const std::string& which) {
  command.add_option(
      "--statistics", file,
      "what the inputs of layers are like, for schemes that look at them (int4-g64-imp, int4-g64-gptq); " + which);
}

// Which values of a site share a scale.
void add_layout(CLI::App& command, programs::site_layout& layout) {
  command
      .add_option("--kv-by-channel", layout.kv_by_channel,
                  "keys and values have a scale for each channel and so many positions (32), instead of one for each head and "
                  "position")
      ->check(CLI::Range(1, 1 << 20));
  command.add_flag("--activations-per-tensor", layout.activations_per_tensor,
                   "inputs of a product have one scale for all tokens of a sequence, instead of one a token");
}

}  // namespace

int programs::run_command_line(int argc, char** argv, rank_function rank_with) {
  CLI::App app{"klens ranks the layers of a language model by what quantization does to its output: forward passes alone",
               "klens"};
  app.set_version_flag("--version", "klens " KLENS_VERSION);
  app.require_subcommand(1);

  programs::rank_arguments rank;
  bool was_interrupted = false;
  CLI::App& rank_command = programs::add_rank_command(app, rank, model_folder, rank_with, was_interrupted);
  add_strict(rank_command, rank.run.strict);
  programs::add_generate(rank_command, "--tokens", rank.run.tokens, programs::scored_seed);
  rank_command.add_flag("--split-fused", rank.split_fused, "scan the parts of fused projections as layers of their own");
  rank_command.add_flag("--include-small", rank.include_small, "scan convolutions, A_log, D, norms and biases, too");

  rank_command
      .add_option("--sites", rank.sites,
                  "what is ranked, with commas between: weights, activations (inputs of products), kv (keys and values), state "
                  "(recurrent), conv (last inputs of convolutions). --schemes may then have KIND=SCHEME entries")
      ->capture_default_str();
  rank_command.add_option("--context", rank.context,
                          "sizes of keys and values are for so many positions of a sequence (default: its length)");
  rank_command.add_flag("--error-feedback", rank.error_feedback,
                        "what rounding takes from a state is kept, and added before the state is rounded again");
  add_layout(rank_command, rank.layout);
  rank_command.add_flag("--by-position", rank.by_position, "kl also by position: 1-128, 129-256, 257-512, ...");

  add_statistics(rank_command, rank.run.statistics, "written there where the file does not exist");

  programs::validate_arguments validate;
  CLI::App& validate_command =
      *app.add_subcommand("validate", "does each metric order the layers as perplexity on held-out tokens does?");
  programs::add_run_options(validate_command, validate.rank.run, model_folder);
  add_strict(validate_command, validate.rank.run.strict);
  programs::add_generate(validate_command, "--tokens", validate.rank.run.tokens, programs::scored_seed);
  validate_command.add_option("--held-out", validate.held_out.file, "the same for the tokens that perplexity is measured on")
      ->required();
  validate_command.add_option("--held-out-sequences", validate.held_out.sequences, "how many of them (default: all)");
  validate_command.add_option("--held-out-first", validate.held_out.first, "tokens of that file to skip")
      ->capture_default_str();
  validate_command.add_option("--schemes", validate.rank.schemes, "ways to store a layer, with commas between them")
      ->capture_default_str();
  validate_command.add_option("--layers", validate.rank.layers, "only layers in whose names this regular expression is found");
  validate_command.add_flag("--split-fused", validate.rank.split_fused,
                            "scan the parts of fused projections as layers of their own");
  validate_command.add_option("--output", validate.rank.output, "write report.json here");
  validate_command.add_option("--html", validate.html, "write a page with tables and plots here");
  validate_command.add_option("--checkpoint", validate.rank.checkpoint,
                              "both scans go on from FILE.calibration and FILE.held-out; finished ones are not repeated");
  validate_command.add_option("--resamples", validate.resamples, "of the sequences, for intervals")
      ->check(CLI::Range(100, 1 << 20))
      ->capture_default_str();
  validate_command.add_option("--seed", validate.seed, "of the resamples")->capture_default_str();
  validate_command.add_flag("--all", validate.all, "print every table, as the page has them");
  validate_command.add_flag("--ablations", validate.ablations,
                            "also how agreement depends on calibration tokens, scheme and direction of KL");
  validate_command.add_flag(
      "--explain", validate.explain,
      "with metrics between kl and mse (other temperatures, centred logits, likely tokens, probabilities), "
      "to see what makes one of them better; slower");
  validate_command.callback([&] {
    if (validate.explain) validate.rank.more_metrics = programs::explanatory_metrics();
    was_interrupted = !programs::validate(validate);
  });

  programs::evaluate_arguments evaluate;
  CLI::App& evaluate_command = *app.add_subcommand("evaluate", "mean negative log likelihood and perplexity of the tokens");
  programs::add_run_options(evaluate_command, evaluate.run, model_folder);
  add_strict(evaluate_command, evaluate.run.strict);
  programs::add_generate(evaluate_command, "--tokens", evaluate.run.tokens, programs::scored_seed);
  evaluate_command
      .add_option(
          "--schemes", evaluate.versions,
          "weights=int4-g64,activations=int8-channel,kv=q8_0: the model with all of that, beside the sum of its parts; may be "
          "given several times")
      ->expected(1)
      ->take_all();
  add_layout(evaluate_command, evaluate.layout);
  evaluate_command.callback([&] { programs::evaluate(evaluate); });

  programs::run_arguments logits;
  std::filesystem::path logits_output;
  CLI::App& logits_command = *app.add_subcommand("logits", "write the logits of the tokens: f32 [batch, length, vocabulary]");
  programs::add_run_options(logits_command, logits, model_folder);
  add_strict(logits_command, logits.strict);
  programs::add_generate(logits_command, "--tokens", logits.tokens, programs::scored_seed);
  logits_command.add_option("--output", logits_output, "safetensors file to write")->required();
  logits_command.callback([&] { programs::logits(logits, logits_output); });

  programs::plan_arguments plan;
  CLI::App& plan_command =
      *app.add_subcommand("plan", "from scores to a scheme for each layer under a budget, measured on held-out tokens");
  programs::add_run_options(plan_command, plan.run, model_folder, "--held-out");
  add_strict(plan_command, plan.run.strict);
  programs::add_generate(plan_command, "--held-out", plan.run.tokens, programs::held_out_seed);
  add_scores_options(plan_command, plan.scores, plan.seed, plan.rules);
  add_statistics(plan_command, plan.run.statistics, "that klens rank wrote");
  plan_command.add_option("--budget", plan.budget,
                          "of all planned layers together: 4.5bpw, 3MB, 2.5MiB, 60% of fp16, or bytes");
  plan_command.add_option("--pool", plan.pools, "PATTERN=BUDGET: layers with a budget of their own; each layer in one pool")
      ->expected(1)
      ->take_all();
  plan_command.add_option("--max-damage", plan.max_damage, "instead of a budget: the smallest plan of at most this damage");
  plan_command.add_option("--allocator", plan.allocator, "exact, greedy, threshold, share or tolerance")->capture_default_str();
  plan_command.add_option("--gamma", plan.gamma, "tolerance: perplexity stays within this factor of the untouched model's")
      ->capture_default_str();
  plan_command
      .add_option("--metric", plan.metric,
                  "whose damages are added up: one that was scored, or weight_sqnr, size, random (which need none)")
      ->capture_default_str();
  plan_command
      .add_option(
          "--candidates", plan.candidates,
          "race so many plans around the budget on half of the held-out sequences, and measure the winner on the other half")
      ->check(CLI::Range(2, 1000));
  plan_command.add_option(
      "--context", plan.context,
      "where keys, values or states were scored: the budget is for so many positions of a sequence (default: as "
      "scored)");
  plan_command.add_option("--concurrent", plan.concurrent, "and for so many sequences at the same time")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  plan_command.add_option("--second-opinion", plan.second_opinion,
                          "other scores of the model (rank --from quantized); the plan that they give is measured, too");
  plan_command.add_option("--calibration", plan.calibration,
                          "where the scored tokens are now, for the allocator tolerance (default: where the scores say)");
  plan_command.add_option("--output", plan.output, "write plan.json here");
  plan_command.add_option("--html", plan.html, "draw the plan in a page here");
  plan_command.add_option("--export", plan.exports, programs::export_help())->expected(1)->take_all();
  plan_command.callback([&] { programs::plan(plan); });

  programs::sweep_arguments sweep;
  CLI::App& sweep_command = *app.add_subcommand(
      "sweep", "plans from the smallest size to the largest, by several metrics, measured on held-out tokens");
  programs::add_run_options(sweep_command, sweep.run, model_folder, "--held-out");
  add_strict(sweep_command, sweep.run.strict);
  programs::add_generate(sweep_command, "--held-out", sweep.run.tokens, programs::held_out_seed);
  add_scores_options(sweep_command, sweep.scores, sweep.seed, sweep.rules);
  add_statistics(sweep_command, sweep.run.statistics, "that klens rank wrote");
  sweep_command.add_option("--allocators", sweep.allocators, "with commas between them")->delimiter(',')->capture_default_str();
  sweep_command.add_option("--metrics", sweep.metrics, "as plan --metric, with commas between them")
      ->delimiter(',')
      ->capture_default_str();
  sweep_command.add_option("--budgets", sweep.budgets, "how many sizes for each allocator and metric")
      ->check(CLI::Range(2, 1000))
      ->capture_default_str();
  sweep_command.add_option("--output", sweep.output, "write the points as JSON here");
  sweep_command.add_option("--html", sweep.html, "draw them in a page here");
  sweep_command.callback([&] { programs::sweep(sweep); });

  std::filesystem::path layers_model;
  bool layers_json = false, layers_split = false, layers_strict = false;
  CLI::App& layers_command = *app.add_subcommand("layers", "list the weight matrices that can be quantized");
  layers_command.add_option("MODEL", layers_model, "folder in Hugging Face format")->required();
  add_strict(layers_command, layers_strict);
  layers_command.add_flag("--json", layers_json, "as JSON instead of a table");
  layers_command.callback([&] { programs::layers(layers_model, layers_json, layers_split, layers_strict); });

  layers_command.add_flag("--split-fused", layers_split, "the parts of fused projections instead of the whole");

  std::vector<std::filesystem::path> merge_parts;
  std::filesystem::path merge_output;
  std::string merge_sort = "kl";
  CLI::App& merge_command = *app.add_subcommand("merge", "join the scores of scans of one model over disjoint tokens");
  merge_command.add_option("SCORES", merge_parts, "scores.json files, in the order of their tokens")
      ->required()
      ->expected(2, 1 << 20);
  merge_command.add_option("--output", merge_output, "write the joint scores.json here");
  merge_command.add_option("--sort", merge_sort, "the metric to rank by")->capture_default_str();
  merge_command.callback([&] { programs::merge(merge_parts, merge_output, merge_sort); });

  return programs::carry_out(app, argc, argv, was_interrupted);
}
