// The model of images: its authors' values, and what every model promises.
#include "engine/model.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <klens/io/safetensors.hpp>

#include "folders.hpp"

namespace {

const std::filesystem::path folder = support::golden / "mambavision";

struct images {
  klens::matrix<float> pixels;
  programs::image_grid each;
};

images golden_images() {
  const klens::safetensors file{folder / "golden.safetensors"};
  const std::vector<std::size_t>& shape = file.at("images").shape;
  std::vector<float> values = file.values<float>("images");
  return {Eigen::Map<klens::matrix<float>>(values.data(), static_cast<Eigen::Index>(shape[0]),
                                           static_cast<Eigen::Index>(shape[1] * shape[2] * shape[3])),
          {shape[2], shape[3]}};
}

/// Some of 70 x 37 pixels: no level's grid is a whole number of windows, nor even.
images odd_images(Eigen::Index count) {
  images made{klens::matrix<float>(count, 3 * 70 * 37), {70, 37}};
  for (Eigen::Index i = 0; i < made.pixels.size(); ++i)
    made.pixels.data()[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i) + 2));
  return made;
}

klens::matrix<float> forward(const programs::model& of, const images& from, std::size_t threads = 1) {
  programs::state at = of.begin_images(from.pixels, from.each);
  for (std::size_t stage = 0; stage < of.stages(); ++stage) of.advance(at, stage, threads);
  return of.logits(at, threads);
}

bool same_bits(const klens::matrix<float>& a, const klens::matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("mambavision: the logits of its authors' code in float64") {
  const programs::model model = programs::model::load(folder);
  CHECK(model.reads_images());
  CHECK(model.vocabulary() == 10);
  const klens::matrix<float> found = forward(model, golden_images());
  const std::vector<double> expected = klens::safetensors{folder / "golden.safetensors"}.values<double>("logits_float64");
  REQUIRE(static_cast<std::size_t>(found.size()) == expected.size());
  double largest = 0, apart = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    apart = std::max(apart, std::abs(found.data()[i] - expected[i]));
  }
  CHECK(apart < 2e-5 * largest);
}

TEST_CASE("mambavision: a forward that goes on from a copied state gives the bits of the whole one") {
  const programs::model model = programs::model::load(folder);
  for (const images& from : {golden_images(), odd_images(3)}) {
    const klens::matrix<float> whole = forward(model, from);
    CHECK(whole.allFinite());
    programs::state at = model.begin_images(from.pixels, from.each);
    for (std::size_t stage = 0; stage < model.stages(); ++stage) {
      programs::state resumed = at;
      for (std::size_t later = stage; later < model.stages(); ++later) model.advance(resumed, later);
      CHECK(same_bits(model.logits(resumed), whole));
      model.advance(at, stage);
    }
  }
}

TEST_CASE("mambavision: an image's bits depend neither on the batch nor on the threads") {
  const programs::model model = programs::model::load(folder);
  const images together = odd_images(5);
  const klens::matrix<float> logits = forward(model, together);
  CHECK(same_bits(forward(model, together, 3), logits));
  for (Eigen::Index i = 0; i < 5; ++i)
    CHECK(same_bits(forward(model, {together.pixels.middleRows(i, 1), together.each}), logits.middleRows(i, 1)));
  programs::state at = model.begin_images(together.pixels, together.each);
  for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(at, stage);
  CHECK(same_bits(model.logits(at, std::vector<std::size_t>{4, 1}).row(1), logits.row(1)));
}

TEST_CASE("mambavision: every weight of a product is a layer at the stage that first reads it, fused ones in parts") {
  programs::model model = programs::model::load(folder);
  const images from = golden_images();
  const klens::matrix<float> before = forward(model, from);
  std::size_t parts = 0;
  for (const programs::weight& each : model.weights(true)) {
    INFO(each.name);
    parts += each.name.ends_with(']') ? 1 : 0;
    programs::state at = model.begin_images(from.pixels, from.each), changed = at;
    klens::layer layer = each.as_layer();
    const klens::matrix<float> own = layer.load();
    layer.store(1.5f * own);
    for (std::size_t stage = 0; stage < model.stages(); ++stage) {
      model.advance(changed, stage);
      const klens::matrix<float> with = changed.hidden;
      layer.store(own);
      model.advance(at, stage);
      CHECK(same_bits(with, at.hidden) == (stage < each.stage));
      if (stage == each.stage) break;
      layer.store(1.5f * own);
    }
    layer.store(own);
  }
  CHECK(parts == 3 * 5 + 2 * 3);  // in_proj and x_proj of three mixers, qkv of two attentions
  CHECK(same_bits(forward(model, from), before));
}

TEST_CASE("mambavision: gammas scale what a block adds") {
  const images from = golden_images();
  const auto logits_with = [&](std::vector<float> values) {
    const support::changed_folder scaled{
        folder, [](nlohmann::json& fields) { fields["layer_scale"] = fields["layer_scale_conv"] = 1e-5; },
        [&](std::vector<klens::stored_tensor>& tensors) {
          const auto add = [&](const std::string& name, std::size_t width) {
            tensors.push_back({name, "F32", {width}, std::as_bytes(std::span(values).first(width))});
          };
          constexpr std::size_t depths[] = {1, 1, 3, 2};
          for (std::size_t level = 0; level < 4; ++level)
            for (std::size_t k = 0; k < depths[level]; ++k) {
              const std::string block = "model.levels." + std::to_string(level) + ".blocks." + std::to_string(k) + ".gamma";
              if (level < 2) add(block, std::size_t{8} << level);
              if (level >= 2) add(block + "_1", std::size_t{8} << level);
              if (level >= 2) add(block + "_2", std::size_t{8} << level);
            }
        }};
    return forward(programs::model::load(scaled.path()), from);
  };
  const klens::matrix<float> without = forward(programs::model::load(folder), from);
  CHECK((logits_with(std::vector<float>(64, 1.f)) - without).cwiseAbs().maxCoeff() <= 1e-6f);
  const klens::matrix<float> half = logits_with(std::vector<float>(64, 0.5f)), none = logits_with(std::vector<float>(64, 0.f));
  CHECK((half - without).cwiseAbs().maxCoeff() > 1e-2f);
  CHECK((half - none).cwiseAbs().maxCoeff() > 1e-2f);
}

TEST_CASE("mambavision: what it cannot read is refused by name") {
  const programs::model model = programs::model::load(folder);
  CHECK_THROWS_AS((void)model.begin(std::vector<std::int32_t>{1, 2}, 1, 2), klens::argument_error);
  CHECK_THROWS_AS((void)model.begin_images(klens::matrix<float>::Zero(1, 3 * 16), {4, 5}), klens::shape_error);
  CHECK_THROWS_AS((void)model.begin_images(klens::matrix<float>(0, 3 * 16), {4, 4}), klens::shape_error);
  const auto with = [](const char* field, nlohmann::json value) {
    return support::load_error(support::changed_folder{folder, [&](nlohmann::json& fields) { fields[field] = value; }}.path());
  };
  CHECK(with("depths", {1, 1, 3}).find("'depths' has 3 entries") != std::string::npos);
  CHECK(with("depths", {1, 1, 3, 0}).find("'depths' holds 0") != std::string::npos);
  CHECK(with("window_size", {8, 8, 3, 65}).find("'window_size' holds 65") != std::string::npos);
  CHECK(with("num_heads", {1, 2, 3, 8}).find("'num_heads' has 3 heads for 32 channels") != std::string::npos);
  CHECK(with("mlp_ratio", -1).find("'mlp_ratio'") != std::string::npos);
  CHECK(with("qk_scale", 0.5).find("'qk_scale'") != std::string::npos);
  CHECK(with("layer_scale", 1e-5).find("gamma_1") != std::string::npos);
  CHECK_THROWS_AS((void)programs::model::load(support::golden / "mamba").begin_images(klens::matrix<float>::Zero(1, 3), {1, 1}),
                  klens::argument_error);
}
