#include "command_parts.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "terminal.hpp"

namespace programs {
namespace {

constexpr int exit_bad_input = 2;
constexpr int exit_interrupted = 130;  // as shells say of SIGINT

// The first line of a message: errors are one line, whatever a library below put into it.
std::string one_line(std::string message) {
  message.erase(std::min(message.find('\n'), message.size()));
  return printable(std::move(message));
}

}  // namespace

void add_run_options(CLI::App& command, run_arguments& run, const char* model, const char* tokens) {
  run.threads = std::max(1u, std::thread::hardware_concurrency());
  command.add_option("MODEL", run.model, model)->required();
  command.add_option(tokens, run.tokens.file, "safetensors with input_ids, [n] or [batch, length]")->required();
  command.add_option("--sequences", run.tokens.sequences, "how many sequences");
  command.add_option("--length", run.tokens.length, "tokens in a sequence");
  command.add_option("--first", run.tokens.first, "tokens of the file to skip")->capture_default_str();
  command.add_option("--threads", run.threads, "results do not depend on it")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command
      .add_option("--batch", run.batch,
                  "sequences that go through the model together; scores do not depend on it, but for --stop, which looks after "
                  "each batch (default: 4, with --stop 2)")
      ->check(CLI::Range(1, 1 << 20));
}

CLI::Option& add_generate(CLI::App& command, const std::string& option, token_choice& tokens, std::uint64_t seed) {
  tokens.seed = seed;
  CLI::Option& generate = *command.add_option("--generate", tokens.generated,
                                              "instead of a file: so many tokens that the model samples itself, in sequences "
                                              "of --length (256), from its beginning-of-text token on, or from any");
  generate.check(CLI::Range(2, 1 << 30));
  for (const std::string& of_files : {option, std::string{"--sequences"}, std::string{"--first"}})
    generate.excludes(command.get_option(of_files));
  command.add_option("--generate-seed", tokens.seed, "other seeds give other tokens")->needs(&generate)->capture_default_str();
  command.add_option("--generated", tokens.keep_at, "write those tokens here, as a file for --tokens")->needs(&generate);
  generate.each([&tokens](const std::string&) { tokens.file = "generated tokens"; });
  command.get_option(option)->required(false);
  return generate;
}

CLI::App& add_rank_command(CLI::App& app, rank_arguments& rank, const char* model, rank_function rank_with, bool& interrupted) {
  CLI::App& command = *app.add_subcommand("rank", "score every layer under every scheme, worst first");
  add_run_options(command, rank.run, model);
  command.add_option("--schemes", rank.schemes, "ways to store a layer, with commas between them")->capture_default_str();
  const CLI::Option& metrics =
      *command.add_option("--metrics", rank.metrics, "with commas between them; --method local and refine know kl only")
           ->capture_default_str();
  command.add_option("--sort", rank.sort, "the metric to rank by")->capture_default_str();
  command.add_option("--layers", rank.layers, "only layers in whose names this regular expression is found");
  command.add_option("--output", rank.output, "write scores.json here");
  command.add_option("--html", rank.html,
                     "draw the ranking in a page here: a map of the model's blocks, and the layers worst first");
  command.add_option("--stop", rank.stop, "exhaustive, top:K, split:SHARE, order:TAU, budget:FORWARDS or budget:SECONDSs")
      ->capture_default_str();
  command.add_option("--confidence", rank.confidence, "that no place which --stop calls settled is wrong")
      ->capture_default_str();
  command.add_option("--positions", rank.positions, "measure at so many positions drawn across all sequences; 0: at all");
  command.add_option("--seed", rank.seed, "of that draw, and of the tokens that --method local looks at")
      ->capture_default_str();
  command.add_option("--from", rank.from, "reference: quantize one layer; quantized: also quantize all and restore one")
      ->check(CLI::IsMember({"reference", "quantized"}))
      ->capture_default_str();
  command
      .add_option("--method", rank.method,
                  "exact: measure every candidate; local: predict kl from what each does to its own stage, for about one "
                  "forward in all; refine: local, then measure what it leaves open under --stop")
      ->check(CLI::IsMember({"exact", "local", "refine"}))
      ->capture_default_str();
  command.add_option("--checkpoint", rank.checkpoint,
                     "written after every batch; a scan that finds its own goes on from there");
  command.callback([&rank, &metrics, &interrupted, rank_with] {
    if (rank.method != "exact" && metrics.count() == 0) rank.metrics = "kl";
    interrupted = !rank_with(rank);
  });
  return command;
}

int carry_out(CLI::App& app, int argc, char** argv, const bool& interrupted) {
  const char* program = app.get_name().c_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    return app.exit(help_or_version);
  } catch (const CLI::ParseError& caught) {
    std::fprintf(stderr, "%s: %s (%s --help tells more)\n", program, one_line(caught.what()).c_str(), program);
    return exit_bad_input;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: out of memory; try a smaller --batch, --length or model\n", program);
    return exit_bad_input;
  } catch (const std::exception& caught) {
    std::fprintf(stderr, "%s: %s\n", program, one_line(caught.what()).c_str());
    return exit_bad_input;
  }
  return interrupted ? exit_interrupted : 0;
}

}  // namespace programs
