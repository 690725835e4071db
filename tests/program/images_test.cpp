// klens rank on a model of images.
#include <doctest/doctest.h>

#include <filesystem>
#include <klens/io/safetensors.hpp>
#include <klens/io/scores_json.hpp>
#include <string>
#include <vector>

#include "program/klens.hpp"

namespace {

const std::string model = "'" KLENS_TEST_DATA "/golden/mambavision'";
const std::string images = "'" KLENS_TEST_DATA "/golden/mambavision/golden.safetensors'";

}  // namespace

TEST_CASE("rank: a model of images, whose class logits are compared and whose images have no next token") {
  const support::temporary_folder folder;
  const std::filesystem::path file = folder / "scores.json";
  const auto result = support::run_klens("rank " + model + " --tokens " + images + " --output '" + file.string() + "'");
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(result.output.find("mambavision: 36 layers, 72 candidates on 2 images (2 positions)") != std::string::npos);
  CHECK(result.output.find("perplexity") == std::string::npos);
  CHECK(result.output.find("delta_ce") == std::string::npos);
  const klens::scores scores = klens::read_scores(file).result;
  CHECK(scores.complete);
  CHECK(scores.sequences == 2);
  REQUIRE(scores.noise.size() == scores.metrics.size());
  const double noise = scores.noise[scores.index_of("kl")].mean;
  CHECK(noise < 1e-9);
  for (const klens::layer_score& each : scores.candidates) {
    INFO(each.layer, " as ", each.scheme);
    CHECK(each.result == klens::outcome::measured);
    CHECK(each.metrics[scores.index_of("kl")].mean > noise);
  }
}

TEST_CASE("rank: one image at a time gives the scores of all together") {
  const auto together =
      support::run_klens("rank " + model + " --tokens " + images + " --schemes int4-channel --batch 2 --threads 2");
  const auto alone = support::run_klens("rank " + model + " --tokens " + images + " --schemes int4-channel --batch 1");
  REQUIRE(together.exit_code == 0);
  CHECK(together.output.find("head.weight") != std::string::npos);
  const auto ranking = [](const std::string& output) {  // the noise floor is that of the first batch
    const std::size_t first = output.find("int4-channel:");
    return output.substr(first, output.rfind("\n\n") - first);
  };
  CHECK(ranking(together.output) == ranking(alone.output));
}

TEST_CASE("rank: what does not go with images is refused by name, with what does") {
  const auto refused = [](const std::string& arguments) {
    const auto result = support::run_klens(arguments);
    CHECK(result.exit_code == 2);
    return result.errors;
  };
  const std::string rank = "rank " + model + " --tokens ";
  CHECK(refused(rank + images + " --method local").find("--method local: an image is many rows") != std::string::npos);
  CHECK(refused(rank + images + " --method refine --stop top:3").find("use --method exact") != std::string::npos);
  CHECK(refused(rank + images + " --length 8").find("--length: this model reads images") != std::string::npos);
  CHECK(refused(rank + images + " --positions 2").find("--positions: an image has one") != std::string::npos);
  CHECK(refused(rank + images + " --sort delta_ce").find("images have no next token") != std::string::npos);
  CHECK(refused(rank + images + " --sequences 3").find("holds 2 images after the first 0, not 3") != std::string::npos);
  CHECK(refused(rank + images + " --first 2").find("no images after the first 2 of 2") != std::string::npos);
  CHECK(refused(rank + "'" KLENS_TEST_DATA "/golden/mamba/golden.safetensors'").find("has no tensor 'images'") !=
        std::string::npos);
  CHECK(refused("evaluate " + model + " --tokens " + images).find("only klens rank and klens layers") != std::string::npos);
  const support::temporary_folder folder;
  const std::vector<float> values(2 * 3 * 4 * 4, 1.f);
  const std::filesystem::path file = folder / "images.safetensors";
  const auto with_shape = [&](std::vector<std::size_t> shape) {
    klens::write_safetensors(file,
                             std::vector<klens::stored_tensor>{{"images", "F32", shape, std::as_bytes(std::span(values))}});
    return refused(rank + "'" + file.string() + "'");
  };
  CHECK(with_shape({2, 4, 4, 3}).find("klens wants [n, 3, height, width]") != std::string::npos);
  CHECK(with_shape({6, 16}).find("klens wants [n, 3, height, width]") != std::string::npos);
}

TEST_CASE("layers: those of a model of images, convolutions among them") {
  const auto result = support::run_klens("layers " + model);
  CHECK(result.exit_code == 0);
  CHECK(result.output.find("model.patch_embed.conv_down.3.weight") != std::string::npos);
  CHECK(result.output.find("8 x 54") != std::string::npos);
}
