// klens rank --method local on every model type.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <klens/io/scores_json.hpp>
#include <set>
#include <string>
#include <vector>

#include "program/klens.hpp"
#include "support/changed_folder.hpp"

TEST_CASE("klens rank --method local: every model type, each layer with a score or with why it has none") {
  const std::filesystem::path golden{KLENS_TEST_DATA "/golden"};
  std::vector<std::filesystem::path> folders;
  for (const char* const variant :
       {"granitemoehybrid_moe", "mistral_window", "nemotron_h_experts", "olmo_hybrid_positive", "qwen2_windows", "qwen3_5_tied",
        "qwen3_next_experts", "smollm3_windows", "zamba2_two_blocks"})
    folders.push_back(golden / "variants" / variant);
  for (const auto& each : std::filesystem::directory_iterator{golden})
    if (std::filesystem::exists(each.path() / "config.json")) folders.push_back(each.path());
  std::set<std::string> types;
  for (const std::filesystem::path& folder : folders) {
    const std::string type = support::config_of(folder).at("model_type");
    INFO(folder.string());
    const support::temporary_folder results;
    const std::filesystem::path file = results / "scores.json";
    const auto result =
        support::run_klens("rank " + support::quoted(folder) + " --tokens " + support::quoted(folder / "golden.safetensors") +
                           " --schemes int4-channel --method local --output " + support::quoted(file));
    if (type == "mambavision") {  // the only one that is refused, and says what to do
      support::check_refused(result, "use --method exact");
      continue;
    }
    types.insert(type);
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    const klens::scores scores = klens::read_scores(file).result;
    CHECK(scores.complete);
    std::size_t predicted = 0;
    for (const klens::layer_score& each : scores.candidates) {
      INFO(each.layer);
      predicted += each.source == klens::score_source::exact ? 0 : 1;
      if (each.result == klens::outcome::measured) CHECK(each.metrics[scores.index_of("kl")].mean > 0);
      CHECK(each.result != klens::outcome::failed);
    }
    CHECK(predicted > 0);
  }
  CHECK(types.size() == 20);
}
