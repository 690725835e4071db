// --statistics: what the inputs of layers were like, for schemes that look at them.
#include <doctest/doctest.h>

#include <filesystem>
#include <klens/io/scores_json.hpp>
#include <string>

#include "program/klens.hpp"

namespace {

using support::quoted;

const std::filesystem::path golden{KLENS_TEST_DATA "/golden"};

std::string rank(const char* model, const std::string& more) {
  return "rank " + quoted(golden / model) + " --tokens " + quoted(golden / model / "golden.safetensors") + " --metrics kl " +
         more;
}

klens::scores ranked(const char* model, const std::filesystem::path& file, const std::string& more) {
  const auto result = support::run_klens(rank(model, more + " --output " + quoted(file)));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  return klens::read_scores(file).result;
}

}  // namespace

TEST_CASE("klens rank --statistics: written once, and read then, whatever the tokens of the later scan") {
  const support::temporary_folder folder;
  const std::string schemes = "--schemes int3-channel-imp,int3-channel-gptq",
                    with_file = " --statistics " + quoted(folder / "inputs");
  const klens::scores alone = ranked("bamba", folder / "a.json", schemes),
                      writing = ranked("bamba", folder / "b.json", schemes + with_file);
  REQUIRE(std::filesystem::exists(folder / "inputs"));
  const klens::scores reading = ranked("bamba", folder / "c.json", schemes + with_file);
  const std::string other = schemes + " --length 8 --sequences 1";
  const klens::scores fewer = ranked("bamba", folder / "d.json", other),
                      informed = ranked("bamba", folder / "e.json", other + with_file);
  bool differs = false;
  for (std::size_t c = 0; c < alone.candidates.size(); ++c) {
    const double kl = alone.candidates[c].metrics.front().mean;
    CHECK(writing.candidates[c].metrics.front().mean == kl);
    CHECK(reading.candidates[c].metrics.front().mean == kl);
    // Fitted to 8 tokens, or to all of them: other weights.
    CHECK(informed.candidates[c].weight_sqnr_db == alone.candidates[c].weight_sqnr_db);
    differs = differs || fewer.candidates[c].weight_sqnr_db != informed.candidates[c].weight_sqnr_db;
  }
  CHECK(differs);
}

TEST_CASE("klens --statistics: those of another model or need, and schemes that want none, are refused") {
  const support::temporary_folder folder;
  const std::string with_file = " --statistics " + quoted(folder / "inputs");
  (void)ranked("bamba", folder / "scores.json", "--schemes int3-channel-imp" + with_file);
  support::check_refused(support::run_klens(rank("jamba", "--schemes int3-channel-imp" + with_file)), "is of another model");
  support::check_refused(support::run_klens(rank("bamba", "--schemes int3-channel-gptq" + with_file)), "second moments");
  support::check_refused(support::run_klens(rank("bamba", "--schemes int3-channel" + with_file)), "none of the schemes looks");
  const std::string plan = "plan " + quoted(golden / "bamba") + " --scores " + quoted(folder / "scores.json") + " --held-out " +
                           quoted(golden / "jamba" / "golden.safetensors") + " --budget 90%";
  support::check_refused(support::run_klens(plan), "give the statistics of the scan: --statistics FILE");
}
