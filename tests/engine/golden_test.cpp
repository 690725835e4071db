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

/// Those of every text model whose rotary frequencies do not depend on the whole length, as dynamic and long rope's do.
std::vector<std::filesystem::path> golden_folders() {
  std::vector<std::filesystem::path> folders;
  for (const auto& parent : {support::golden, support::golden / "variants"})
    for (const auto& each : std::filesystem::directory_iterator{parent})
      if (std::filesystem::exists(each.path() / "config.json") && each.path().filename() != "mambavision" &&
          each.path().filename() != "llama_dynamic" && each.path().filename() != "llama_longrope_long" &&
          each.path().filename() != "llama_longrope_shrunk")
        folders.push_back(each.path());
  return folders;
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

// A first call with a few tokens, then one token at a time, each part knowing what came before.
TEST_CASE("a sequence that goes on token by token has the logits of the whole one") {
  for (const auto& each : golden_folders()) {
    INFO("model ", each.string());
    const programs::model model = programs::model::load(each);
    const klens::safetensors golden{each / "golden.safetensors"};
    const std::vector<std::int64_t> wide = golden.integers("input_ids");
    const std::vector<std::int32_t> ids(wide.begin(), wide.end());
    const std::size_t sequences = golden.at("input_ids").shape[0], length = golden.at("input_ids").shape[1], first = 3;
    std::vector<std::int32_t> begin;
    for (std::size_t s = 0; s < sequences; ++s)
      begin.insert(begin.end(), ids.begin() + static_cast<std::ptrdiff_t>(s * length),
                   ids.begin() + static_cast<std::ptrdiff_t>(s * length + first));
    programs::state at = model.begin(begin, sequences, first);
    at.before.resize(sequences);
    klens::matrix<float> found(static_cast<Eigen::Index>(ids.size()), static_cast<Eigen::Index>(model.vocabulary()));
    for (std::size_t position = 0; position < length;) {
      for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(at, stage);
      const klens::matrix<float> logits = model.logits(at);
      for (std::size_t s = 0; s < sequences; ++s)
        found.middleRows(static_cast<Eigen::Index>(s * length + position), static_cast<Eigen::Index>(at.length)) =
            logits.middleRows(static_cast<Eigen::Index>(s * at.length), static_cast<Eigen::Index>(at.length));
      position += at.length;
      if (position == length) break;
      std::vector<std::int32_t> next;
      for (std::size_t s = 0; s < sequences; ++s) next.push_back(ids[s * length + position]);
      at = model.go_on(std::move(at), next);
    }
    CHECK(difference(found, golden.values<float>("logits")) < 4e-5);  // products of one row round in another order
  }
}
