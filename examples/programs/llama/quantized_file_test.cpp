// klens-llama plan --verify, with tools that only pretend.
#include "quantized_file.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "llama_test.hpp"

namespace {

using namespace llama_adapter;
using support::quoted;
using support::temporary_folder;

void write_tool(const std::filesystem::path& path, const std::string& lines) {
  std::ofstream{path} << "#!/bin/sh\n" << lines;
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
}

// What --verify needs, in a folder of its own: a model, its scores, held-out tokens.
struct study {
  temporary_folder folder;
  std::string plan;

  explicit study(const std::string& quantized = "made.gguf") {
    const std::filesystem::path model = folder / "model.gguf", scores = folder / "scores.json";
    tiny_model{}.write(model);
    const auto tokens = [&](std::int32_t first) { return quoted(written(some_tokens(40, first), "ids")) + " --context 8 "; };
    const auto ranked = support::run_klens("rank " + quoted(model) + " --tokens " + tokens(0) +
                                           "--types q8_0 --metrics kl --output " + quoted(scores));
    REQUIRE_MESSAGE(ranked.exit_code == 0, ranked.errors);
    plan = " plan " + quoted(model) + " --scores " + quoted(scores) + " --like Q8_0 --tokens " + tokens(45) + "--output " +
           quoted(folder / "types.txt") + " --quantized " + quoted(folder / quantized) + " --verify ";
  }
  [[nodiscard]] support::program_result run(const std::string& before, const std::string& options) const {
    return support::run_program(before + "'" KLENS_PROGRAM "'" + plan + options);
  }
  [[nodiscard]] bool wrote(const std::string& name) const { return std::filesystem::exists(folder / name); }
};

}  // namespace

TEST_CASE("klens-llama plan --verify: missing tools are named before anything is written") {
  const study of;
  const temporary_folder tools;
  const std::string there = "--tools " + quoted(tools.path());
  const auto check_missing = [&](const support::program_result& result, const std::string& because) {
    support::check_refused(result, because);
    CHECK_FALSE(of.wrote("types.txt"));
    CHECK_FALSE(of.wrote("made.gguf"));
  };
  check_missing(of.run("", there), "/llama-quantize is not there; examples/programs/llama/run.sh --tools builds it");
  check_missing(of.run("PATH=" + quoted(tools.path()) + " ", ""), "llama-quantize is not there");
  write_tool(tools / "llama-quantize", "exit 1\n");
  check_missing(of.run("", there), "/llama-perplexity is not there");
}

TEST_CASE(
    "klens-llama plan --verify: a quantized file that cannot be, or is the model, is refused before anything is written") {
  const study nowhere{"none/made.gguf"}, itself{"model.gguf"};
  support::check_refused(nowhere.run("", ""), "none/made.gguf: ");
  support::check_refused(itself.run("", ""), "--quantized: is the model itself");
  CHECK_FALSE(nowhere.wrote("types.txt"));
  CHECK_FALSE(itself.wrote("types.txt"));
}

TEST_CASE("klens-llama plan --verify: what the tools made and said stands beside the prediction") {
  const study of;
  const temporary_folder tools;
  const std::filesystem::path made = quantized(gguf_file{of.folder / "model.gguf"}, LLAMA_FTYPE_MOSTLY_Q8_0);
  write_tool(tools / "llama-quantize",
             "printf '%s ' \"$@\" >" + quoted(tools / "quantize") + "\ncp " + quoted(made) + " \"$4\"\n");
  write_tool(tools / "llama-perplexity", "printf '%s ' \"$@\" >" + quoted(tools / "perplexity") + "\ncp \"$6\" " +
                                             quoted(tools / "base") + "\necho 'Mean    KLD:   0.125000 +- 0.01'\n");
  const auto result = of.run("PATH=" + quoted(tools.path()) + ":\"$PATH\" ", "");
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  const std::string bytes = std::to_string(std::filesystem::file_size(made)), path = (of.folder / "made.gguf").string();
  CHECK(holds(result.output, "llama-quantize wrote " + bytes + " bytes; predicted were " + bytes + "\n"));
  CHECK(holds(result.output, "by klens from float logits, 0.125 by llama-perplexity from 16-bit ones\n"));
  CHECK(support::content_of(tools / "quantize") == "--tensor-type-file " + (of.folder / "types.txt").string() + " " +
                                                       (of.folder / "model.gguf").string() + " " + path + " q8_0 ");
  CHECK(support::content_of(tools / "perplexity") ==
        "-m " + path + " --no-repack --kl-divergence --kl-divergence-base " + path + ".kl-base -c 8 -b 8 -ub 8 -t 2 -ngl 0 ");
  CHECK(std::filesystem::file_size(tools / "base") == 8 + 12 + 5 * (8 * 4 + 3 * (4 + 12) * 2));
  CHECK_FALSE(of.wrote("made.gguf.kl-base"));

  write_tool(tools / "llama-perplexity", "echo one\necho 'no such thing'\nexit 1\n");
  const auto failed = of.run("", "--tools " + quoted(tools.path()));
  CHECK(failed.exit_code == 2);
  CHECK(holds(failed.errors, "/llama-perplexity failed: no such thing\n"));
  CHECK_FALSE(of.wrote("made.gguf.kl-base"));
}
