#include "engine/model.hpp"

#include <doctest/doctest.h>

#include <map>

#include "folders.hpp"

namespace {

/// Largest difference, in units of the largest expected value.
double difference(const klens::matrix<float>& found, const std::vector<float>& expected) {
  REQUIRE(static_cast<std::size_t>(found.size()) == expected.size());
  double largest = 0, apart = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double value = found.data()[i], wanted = expected[i];
    largest = std::max(largest, std::abs(wanted));
    apart = std::max(apart, std::isfinite(value) ? std::abs(value - wanted) : HUGE_VAL);
  }
  return apart / largest;
}

void check_golden(const std::filesystem::path& folder) {
  INFO("model ", folder.string());
  programs::model model = programs::model::load(folder);
  const klens::safetensors golden{folder / "golden.safetensors"};
  const std::vector<std::int64_t> ids = golden.integers("input_ids");
  const std::vector<std::size_t>& shape = golden.at("input_ids").shape;
  programs::state at = model.begin(std::vector<std::int32_t>(ids.begin(), ids.end()), shape[0], shape[1]);
  std::map<int, std::size_t> begins;  // the first stage of each block
  for (const programs::weight& each : model.weights())
    if (each.block >= 0) begins.try_emplace(each.block, each.stage);
  std::size_t done = 0;
  for (const auto& [block, stage] : begins) {
    // hidden.N is the residual stream before block N; models of nothing but Mamba mixers gave theirs after it.
    const std::string name = "hidden." + std::to_string(block);
    const std::size_t wanted = stage + (model.type().starts_with("mamba") ? 1 : 0);
    while (done < wanted) model.advance(at, done++);
    INFO(name);
    if (golden.contains(name)) CHECK(difference(at.hidden, golden.values<float>(name)) < 2e-5);
  }
  while (done < model.stages()) model.advance(at, done++);
  CHECK(difference(model.logits(at), golden.values<float>("logits")) < 2e-5);
}

}  // namespace

TEST_CASE("every model type gives the logits of its authors' definition") {
  for (const char* const type : {"bamba", "falcon_h1", "falcon_mamba", "gemma3", "hymba", "jamba", "jamba_moe", "lfm2", "llama",
                                 "mamba", "mamba2", "nemotron_h", "qwen3", "zamba2"})
    check_golden(support::golden / type);
}

TEST_CASE("and so do the variants of each type: biases, groups, tied heads, norms, windows, rope scaling, expert counts") {
  std::size_t found = 0;
  for (const auto& each : std::filesystem::directory_iterator{support::golden / "variants"}) {
    check_golden(each.path());
    ++found;
  }
  CHECK(found == 40);
}

TEST_CASE("and the trained models") {
  for (const char* const name : {"wikitext-hybrid-4m", "wikitext-parallel-2m"})
    check_golden(std::filesystem::path(KLENS_EXAMPLE_DATA) / name);
}
