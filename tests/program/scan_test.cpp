// klens rank: stopping early, going on after an interruption, the other direction, and merging parts.
#include <doctest/doctest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <klens/io/scores_json.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "program/klens.hpp"

namespace {

using support::calibration;
using support::embedded_model;
using support::run_klens;

const std::string common = "rank " + embedded_model + " --tokens " + calibration + " --length 32 ";

nlohmann::json json_of(const std::filesystem::path& file) { return nlohmann::json::parse(support::content_of(file)); }

// Everything that must not depend on how a scan came about.
nlohmann::json essence(nlohmann::json json) {
  json["cost"].erase("seconds");
  json["cost"].erase("peak_bytes");
  return json;
}

}  // namespace

TEST_CASE("--stop: settled layers leave, the report says so, and the scan costs less") {
  const support::temporary_folder folder;
  const auto file = folder / "scores.json";
  const std::string scan = common + "--sequences 12 --schemes int4-channel --output '" + file.string() + "' ";
  REQUIRE(run_klens(scan).exit_code == 0);
  const nlohmann::json whole = json_of(file);
  const auto result = run_klens(scan + "--stop split:0.5 --confidence 0.9");
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  const nlohmann::json early = json_of(file);
  CHECK(early.at("cost").at("forwards").get<double>() < whole.at("cost").at("forwards").get<double>());
  std::size_t settled = 0, fewest = 1000000;
  for (const nlohmann::json& each : early.at("candidates")) {
    settled += each.at("left") == "settled" ? 1 : 0;
    fewest = std::min(fewest, each.at("positions").get<std::size_t>());
  }
  CHECK(settled > 30);
  CHECK(fewest < 12 * 32);
  CHECK(result.output.find("settled") != std::string::npos);
  for (const nlohmann::json& each : whole.at("candidates")) CHECK(each.at("left") == "end");

  const auto refused = run_klens(scan + "--stop whenever");
  CHECK(refused.exit_code == 2);
  CHECK(refused.errors.find("whenever") != std::string::npos);
}

TEST_CASE("--checkpoint: killed at any moment and started again, the scan ends with the bytes of one that was not") {
  const support::temporary_folder folder;
  const auto whole_file = folder / "whole.json", file = folder / "scores.json", checkpoint = folder / "checkpoint";
  const std::string scan = common + "--sequences 6 --batch 1 --schemes int8-channel --layers 'layers\\.[0-3]\\.' ";
  REQUIRE(run_klens(scan + "--output '" + whole_file.string() + "'").exit_code == 0);
  const std::string resumable = scan + "--checkpoint '" + checkpoint.string() + "' --output '" + file.string() + "'";
  for (const char* after :
       {"0.15", "0.2", "0.3"})  // kill -9 somewhere in the middle; where the machine is faster, after the end
    (void)support::run_program("timeout -s KILL " + std::string{after} + " '" KLENS_PROGRAM "' " + resumable);
  const auto result = run_klens(resumable);
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(essence(json_of(file)) == essence(json_of(whole_file)));

  // Another scan: what it is of, or what it is to settle, is not the checkpoint's, and the message says which.
  const auto refused = [&](const std::string& options, const char* what) {
    const auto other = run_klens(common + "--sequences 6 " + options + " --checkpoint '" + checkpoint.string() + "'");
    INFO(options);
    support::check_refused(other, std::string{"is of another scan: its "} + what + " is ");
  };
  const std::string layers = " --layers 'layers\\.[0-3]\\.'", batch = " --batch 1", schemes = " --schemes int8-channel";
  refused(batch + layers + " --schemes int4-channel", "schemes");
  refused(batch + schemes + " --layers 'layers\\.[0-2]\\.'", "layers");
  refused(batch + layers + schemes + " --split-fused", "layers");
  refused(batch + layers + schemes + " --include-small", "layers");
  refused(layers + schemes + " --batch 2", "batch");
  refused(batch + layers + schemes + " --first 5", "tokens");
  refused(batch + layers + schemes + " --metrics kl", "metrics");
  refused(batch + layers + schemes + " --sort mse", "sort");
  refused(batch + layers + schemes + " --stop split:0.5", "stop");
  refused(batch + layers + schemes + " --confidence 0.9", "confidence");
  refused(batch + layers + schemes + " --seed 2", "seed");
  refused(batch + layers + schemes + " --positions 20", "positions");
  support::check_refused(
      run_klens(common + batch + layers + schemes + " --from quantized --checkpoint '" + checkpoint.string() + "'"),
      "--checkpoint: not together with --from quantized");
}

TEST_CASE("SIGINT: the scan ends after the current candidate, with a partial result that can be used") {
  const support::temporary_folder folder;
  const auto file = folder / "scores.json";
  const std::string scan = "'" KLENS_PROGRAM "' rank " + embedded_model + " --tokens " + calibration +
                           " --sequences 64 --output '" + file.string() + "'";
  const auto result = support::run_program("timeout -s INT 2 " + scan + "; exit 0");
  REQUIRE_MESSAGE(std::filesystem::exists(file), result.errors);
  const klens::scores partial = klens::read_scores(file).result;
  CHECK(!partial.complete);
  CHECK(partial.candidates.size() == 114);
  CHECK(partial.candidates[0].positions > 0);
  CHECK(result.errors.find("interrupted") != std::string::npos);
}

TEST_CASE("--from quantized: both ways are shown") {
  const auto result = run_klens(common + "--sequences 3 --schemes int4-channel --layers 'layers\\.1\\.'");
  REQUIRE(result.exit_code == 0);
  const auto both = run_klens(common + "--sequences 3 --schemes int4-channel --layers 'layers\\.1\\.' --from quantized");
  REQUIRE_MESSAGE(both.exit_code == 0, both.errors);
  CHECK(both.output.find("every layer as int4-channel: kl ") != std::string::npos);
}

TEST_CASE("--positions: fewer positions, drawn from all sequences") {
  const support::temporary_folder folder;
  const auto file = folder / "scores.json";
  const auto result = run_klens(common + "--sequences 4 --schemes int8-channel --layers x_proj --positions 20 --output '" +
                                file.string() + "'");
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  const nlohmann::json scores = json_of(file);
  for (const nlohmann::json& each : scores.at("candidates")) CHECK(each.at("positions") == 20);
}

TEST_CASE("--split-fused and --include-small: parts of fused projections, and what is kept otherwise") {
  const auto split = run_klens(common + "--sequences 2 --schemes int4-channel --layers 'layers\\.0\\..*in_proj' --split-fused");
  REQUIRE_MESSAGE(split.exit_code == 0, split.errors);
  CHECK(split.output.find("model.layers.0.mamba.in_proj.weight[x]") != std::string::npos);
  CHECK(split.output.find("model.layers.0.mamba.in_proj.weight[z]") != std::string::npos);
  const auto small =
      run_klens(common + "--sequences 2 --schemes int8-channel --layers 'layers\\.0\\..*(A_log|conv1d)' --include-small");
  REQUIRE_MESSAGE(small.exit_code == 0, small.errors);
  CHECK(small.output.find("model.layers.0.mamba.A_log") != std::string::npos);
}

TEST_CASE("klens merge: parts of the tokens give the scores of all") {
  const support::temporary_folder folder;
  const std::string scan = common + "--schemes int4-channel --layers x_proj ";
  const auto run = [&](const std::string& options, const char* name) {
    REQUIRE(run_klens(scan + options + " --output '" + (folder / name).string() + "'").exit_code == 0);
  };
  run("--sequences 5", "whole.json");
  run("--sequences 2", "a.json");
  run("--sequences 3 --first 64", "b.json");
  const auto joined = folder / "joint.json";
  const auto in = [&](const char* name) { return " " + support::quoted(folder / name); };
  const auto result = run_klens("merge" + in("a.json") + in("b.json") + " --output " + support::quoted(joined));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(json_of(joined).at("candidates") == json_of(folder / "whole.json").at("candidates"));
  for (const std::string& wrong : {in("b.json") + in("a.json"), in("a.json") + in("a.json"), in("whole.json") + in("b.json")}) {
    const auto refused = run_klens("merge" + wrong);
    CHECK(refused.exit_code == 2);
    CHECK(refused.errors.find("tokens") != std::string::npos);
  }
}
