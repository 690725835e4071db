// klens evaluate, logits and layers, and what the program says of itself.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <klens/io/safetensors.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program/klens.hpp"

namespace {

using support::calibration;
using support::embedded_model;
using support::run_klens;

double number_after(const std::string& text, const std::string& word) {
  const std::size_t at = text.find(word);
  return at == std::string::npos ? NAN : std::strtod(text.c_str() + at + word.size(), nullptr);
}

}  // namespace

TEST_CASE("klens logits: those of the embedded model are the reference's") {
  const support::temporary_folder folder;
  const auto file = folder / "logits.safetensors";
  const std::string golden_path = support::example_data + "/wikitext-hybrid-4m/golden.safetensors";
  const auto result =
      run_klens("logits " + embedded_model + " --tokens '" + golden_path + "' --output '" + file.string() + "'");
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  const klens::safetensors written{file}, golden{golden_path};
  CHECK(written.at("logits").shape == std::vector<std::size_t>{2, 128, 2048});
  const std::vector<float> ours = written.values<float>("logits"), theirs = golden.values<float>("logits");
  REQUIRE(ours.size() == theirs.size());
  float largest = 0, furthest = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    largest = std::max(largest, std::abs(theirs[i]));
    furthest = std::max(furthest, std::abs(theirs[i] - ours[i]));
  }
  CHECK(furthest <= 2e-5f * largest);
}

TEST_CASE("klens logits: a flat file is one sequence unless a length is chosen") {
  const support::temporary_folder folder;
  const std::vector<std::int32_t> ids{5, 6, 7, 8, 9, 10};
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int32_t>("input_ids", {6}, ids)};
  klens::write_safetensors(folder / "ids.safetensors", tensors);
  const auto file = folder / "logits.safetensors";
  const std::string common =
      "logits " + embedded_model + " --tokens '" + (folder / "ids.safetensors").string() + "' --output '" + file.string() + "'";
  REQUIRE(run_klens(common).exit_code == 0);
  CHECK(klens::safetensors{file}.at("logits").shape == std::vector<std::size_t>{1, 6, 2048});
  REQUIRE(run_klens(common + " --length 2 --first 1").exit_code == 0);
  CHECK(klens::safetensors{file}.at("logits").shape == std::vector<std::size_t>{2, 2, 2048});
}

TEST_CASE("klens evaluate: perplexity of the embedded model is the one that was measured elsewhere") {
  const auto result = run_klens("evaluate " + embedded_model + " --tokens " + calibration + " --sequences 16 --length 256");
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(std::abs(number_after(result.output, "nll") - 3.5816093) < 2e-6);
  CHECK(std::abs(number_after(result.output, "perplexity") - 35.9313) < 1e-4);
  CHECK(number_after(result.output, "positions") == 4080);
  CHECK(number_after(result.output, "speed") > 0);
}

TEST_CASE("klens evaluate: the standard error is that of a mean of three sequences, by hand") {
  const std::string common = "evaluate " + embedded_model + " --tokens " + calibration + " --length 64 --sequences ";
  double nll[3], mean = 0, squares = 0;
  for (int s = 0; s < 3; ++s) {
    nll[s] = number_after(run_klens(common + "1 --first " + std::to_string(64 * s)).output, "nll");
    mean += nll[s] / 3;
  }
  for (const double each : nll) squares += (each - mean) * (each - mean);
  const auto result = run_klens(common + "3");
  CHECK(std::abs(number_after(result.output, "nll") - mean) < 2e-6);  // six digits are printed
  const double error = std::sqrt(squares / 2 / 3);
  REQUIRE(error > 0.01);
  CHECK(std::abs(number_after(result.output, "standard error") - error) < 2e-6);
}

TEST_CASE("klens layers: all that can be ranked") {
  const auto result = run_klens("layers " + embedded_model + " --json");
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  const nlohmann::json json = nlohmann::json::parse(result.output);
  CHECK(json.at("layers").size() == 57);
  const auto table = run_klens("layers " + embedded_model);
  CHECK(table.output.find("model.layers.0.mamba.x_proj.weight") != std::string::npos);
  CHECK(table.output.find("lm_head.weight (tied to the embedding)") != std::string::npos);
}

TEST_CASE("klens: version and help") {
  CHECK(run_klens("--version").output.starts_with("klens 0."));
  CHECK(run_klens("--help").exit_code == 0);
  CHECK(run_klens("rank --help").output.find("--schemes") != std::string::npos);
}
