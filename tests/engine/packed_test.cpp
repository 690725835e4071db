#include "exporters/packed.hpp"

#include <doctest/doctest.h>

#include <klens/plan/apply.hpp>
#include <vector>

#include "folders.hpp"

using support::forward;
using support::golden;
using support::some_tokens;
using support::temporary_folder;

TEST_CASE("packed: stacked experts, each under a scheme of its own, whole or in parts, give the logits of their simulation") {
  const std::filesystem::path folder = golden / "variants/granitemoehybrid_moe";
  for (const bool split : {false, true}) {
    INFO("split ", split);
    programs::model model = programs::model::load(folder);
    const char* const schemes[] = {"int4-g8", "int8-channel", "fp16", "int4-signed-g4"};
    klens::plan plan;
    std::vector<klens::layer> layers;
    klens::model_version version;
    std::size_t stacked = 0;
    for (const programs::weight& each : model.weights(split)) {
      const char* const scheme = schemes[layers.size() % 4];
      plan.layers.push_back({each.name, scheme});
      version.emplace(each.name, klens::scheme{scheme});
      layers.push_back(each.as_layer());
      stacked += each.tensor.find("input_linear") != std::string::npos && each.name.find("moe") != std::string::npos;
    }
    CHECK(stacked == (split ? 18 : 9));  // three layers of three experts, of gate and up each
    const temporary_folder out;
    programs::write_packed(out / "packed", plan, folder, model, {});
    const std::vector<std::int32_t> tokens = some_tokens(model, 30);
    const klens::matrix<float> before = forward(model, tokens, 1);
    const klens::applied_version applied{layers, version};
    const klens::matrix<float> simulated = forward(model, tokens, 1);
    CHECK(simulated != before);
    CHECK(forward(programs::model::load(out / "packed"), tokens, 1) == simulated);
  }
}
