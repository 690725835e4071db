// klens on llama.cpp: what ggml's quantization does to each tensor of a GGUF model, run by llama.cpp itself.

#include <CLI/CLI.hpp>
#include <string>

#include "command_parts.hpp"
#include "rank_command.hpp"

namespace {

// An option of any engine under llama.cpp's name for it as well.
template <class Value>
void rename(CLI::App& command, const std::string& known, const std::string& name, Value& value, const char* help) {
  command.remove_option(command.get_option(known));
  command.add_option(name + "," + known, value, help);
}

void add_token_options(CLI::App& command, hybrid::run_arguments& run, llama_adapter::llama_arguments& of_llama) {
  command.get_option("--tokens")->required(false);
  command.add_option("--file", of_llama.text, "instead of --tokens: a text, for the model's own tokenizer");
  command.add_flag("--plain-text", of_llama.plain_text,
                   "with --file: tokens that are spelled out in the text (<unk>, <s>) are text, as llama-perplexity has it");
  rename(command, "--sequences", "--chunks", run.tokens.sequences, "how many sequences");
  rename(command, "--length", "--context", run.tokens.length, "tokens in a sequence");
  command.add_option("--gpu-layers", of_llama.gpu_layers, "as llama.cpp's -ngl; only 0, the CPU, was ever tried")
      ->capture_default_str();
}

void add_rank(CLI::App& app, hybrid::rank_arguments& rank, llama_adapter::llama_arguments& of_llama, bool& interrupted) {
  const auto rank_with = [&](const hybrid::rank_arguments& of) { return llama_adapter::rank(of, of_llama); };
  CLI::App& command = hybrid::add_rank_command(app, rank, "a model in GGUF: F32, F16 or BF16", rank_with, interrupted);
  add_token_options(command, rank.run, of_llama);
  rank.schemes = "q4_0,q8_0,q4_k,q5_k,q6_k";
  rename(command, "--schemes", "--types", rank.schemes, "ggml's types, with commas between them");
  command.get_option("--types")->capture_default_str();
  rename(command, "--layers", "--tensors", rank.layers, "only tensors in whose names this regular expression is found");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"klens-llama ranks the tensors of a GGUF model by what llama.cpp's quantization does to its output",
               "klens-llama"};
  app.set_version_flag("--version", "klens-llama " KLENS_VERSION " with libllama " KLENS_LLAMA_VERSION);
  app.require_subcommand(1);
  hybrid::rank_arguments arguments;
  llama_adapter::llama_arguments of_llama;
  bool interrupted = false;
  add_rank(app, arguments, of_llama, interrupted);
  return hybrid::carry_out(app, argc, argv, interrupted);
}
