// klens on llama.cpp: what ggml's quantization does to each tensor of a GGUF model, run by llama.cpp itself.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <klens/version.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "command_parts.hpp"
#include "ggml_format.hpp"
#include "plan_command.hpp"
#include "rank_command.hpp"

namespace {

// An option of any engine under llama.cpp's name for it as well.
template <class Value>
void rename(CLI::App& command, const std::string& known, const std::string& name, Value& value, const char* help) {
  command.remove_option(command.get_option(known));
  command.add_option(name + "," + known, value, help);
}

// A type of ggml's by its name.
void add_type(CLI::App& command, const char* name, std::optional<ggml_type>& type, const char* help) {
  command.add_option_function<std::string>(
      name, [&type](const std::string& text) { type = llama_adapter::ggml_format{std::string_view{text}}.type(); }, help);
}

// Gives back --generate, for what else brings tokens along.
CLI::Option& add_token_options(CLI::App& command, programs::run_arguments& run, llama_adapter::llama_arguments& of_llama,
                               std::uint64_t seed) {
  CLI::Option& text =
      *command.add_option("--file", of_llama.text, "instead of --tokens: a text, for the model's own tokenizer");
  command.add_flag("--plain-text", of_llama.plain_text,
                   "with --file: tokens that are spelled out in the text (<unk>, <s>) are text, as llama-perplexity has it");
  rename(command, "--sequences", "--chunks", run.tokens.sequences, "how many sequences");
  rename(command, "--length", "--context", run.tokens.length, "tokens in a sequence");
  command.add_option("--imatrix", of_llama.imatrix,
                     "an importance matrix of llama-imatrix's, GGUF or older: types are made with it, as llama-quantize does");
  command.add_option("--gpu-layers", of_llama.gpu_layers, "as llama.cpp's -ngl; only 0, the CPU, was ever tried")
      ->capture_default_str();
  CLI::Option& generate = programs::add_generate(command, "--tokens", run.tokens, seed);
  generate.excludes(&text);
  return generate;
}

void add_rank(CLI::App& app, programs::rank_arguments& rank, llama_adapter::llama_arguments& of_llama, bool& interrupted) {
  const auto rank_with = [&](const programs::rank_arguments& of) { return llama_adapter::rank(of, of_llama); };
  CLI::App& command = programs::add_rank_command(app, rank, "a model in GGUF: F32, F16 or BF16", rank_with, interrupted);
  CLI::Option& generate = add_token_options(command, rank.run, of_llama, programs::scored_seed);
  generate.excludes(command.add_option(
      "--kl-divergence-base", of_llama.base,
      "instead of --tokens: such a file of llama-perplexity's, its tokens and its 16-bit logits as reference"));
  command.add_option("--table", of_llama.table, "write the KLs here as a table QTYPE,<tensor>,... as well");
  rank.schemes = "q4_0,q8_0,q4_k,q5_k,q6_k";
  rename(command, "--schemes", "--types", rank.schemes, "ggml's types, with commas between them");
  command.get_option("--types")->capture_default_str();
  rename(command, "--layers", "--tensors", rank.layers, "only tensors in whose names this regular expression is found");
}

void add_plan(CLI::App& app, llama_adapter::plan_arguments& plan) {
  CLI::App& command = *app.add_subcommand("plan", "choose a type for each tensor, and write what llama-quantize wants");
  programs::add_run_options(command, plan.run, "the model that was ranked");
  add_token_options(command, plan.run, plan.of_llama, programs::held_out_seed);
  command.add_option("--scores", plan.scores, "scores.json of rank, or a table QTYPE,<tensor>,... of KLs (GGUF Tool Suite)")
      ->required();
  command.add_option("--size", plan.limit.size, "most bytes of the file: 3.2GiB, 500MB, 4.5bpw");
  command.add_option("--bpw", plan.limit.bpw, "most bits a weight, of the tensors: 4.5");
  command.add_option("--like", plan.limit.like, "the bytes of llama-quantize's own mixture: Q4_K_M");
  command.add_option("--keep", plan.rules.keep, "tensors in whose names this regular expression is found stay as they are");
  command.add_option("--assume-harmless", plan.rules.assume_harmless,
                     "tensors whose damage counts as 0 where the scores do not know it (a change that reached no logit)");
  command.add_flag("--pure", plan.rules.mixture.pure, "as llama-quantize's: its own mixtures have their first type throughout");
  add_type(command, "--output-tensor-type", plan.rules.mixture.output, "as llama-quantize's: the type of output.weight");
  add_type(command, "--token-embedding-type", plan.rules.mixture.token_embedding,
           "as llama-quantize's: the type of token_embd.weight");
  command.add_option("--floor", plan.rules.floor,
                     "no tensor may lose more than so many nats/token; one that would in every type stays as it is");
  command.add_option("--output", plan.output, "write the types here, for llama-quantize --tensor-type-file");
  command.add_flag("--verify", plan.verify,
                   "run llama-quantize, and llama-perplexity --kl-divergence on the held-out tokens, and compare");
  command.add_option("--quantized", plan.quantized, "where --verify puts the quantized model");
  command.add_option("--tools", plan.tools, "the folder of these two programs; otherwise they are looked for on PATH");
  command.callback([&plan] { llama_adapter::plan(plan); });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"klens-llama ranks the tensors of a GGUF model by what llama.cpp's quantization does to its output",
               "klens-llama"};
  app.set_version_flag("--version", "klens-llama " KLENS_VERSION " with libllama " KLENS_LLAMA_VERSION);
  app.require_subcommand(1);
  programs::rank_arguments arguments;
  llama_adapter::llama_arguments of_llama;
  bool interrupted = false;
  add_rank(app, arguments, of_llama, interrupted);
  llama_adapter::plan_arguments plan;
  add_plan(app, plan);
  return programs::carry_out(app, argc, argv, interrupted);
}
