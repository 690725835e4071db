#include "synthetic.hpp"

#include <doctest/doctest.h>

#include <klens/error.hpp>

#include "ir_model.hpp"
#include "test_models.hpp"

namespace {

using namespace openvino_adapter;

std::vector<std::int32_t> tokens_below(std::int32_t vocabulary, std::int32_t count) {
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < count; ++i) tokens.push_back((i * i + 3 * i) % vocabulary);
  return tokens;
}

// Small models of both kinds.
std::vector<checked_ir> small_models() {
  return {check_ir(synthetic_llama({.vocabulary = 11, .width = 16, .blocks = 2, .heads = 2, .inner = 24}), "llama"),
          check_ir(synthetic_mamba2({.vocabulary = 11, .width = 16, .blocks = 2, .heads = 4, .head_width = 8, .state = 6}),
                   "mamba2")};
}

}  // namespace

TEST_CASE("the scan as products is the recurrence") {
  constexpr std::size_t length = 7, heads = 2, state = 3, width = 4;
  const auto input = [](const ov::PartialShape& shape) { return std::make_shared<op::Parameter>(ov::element::f32, shape); };
  const auto decay = input({-1, -1, heads}), b = input({-1, -1, state}), c = input({-1, -1, state}),
             x = input({-1, -1, heads, width});
  const auto model =
      std::make_shared<ov::Model>(ov::OutputVector{state_space_product(decay, b, c, x)}, ov::ParameterVector{decay, b, c, x});
  ov::InferRequest request = core().compile_model(model, "CPU", exact_settings(1)).create_infer_request();
  std::vector<ov::Tensor> given;
  for (std::size_t i = 0; i < 4; ++i) {
    const ov::Shape shapes[] = {{1, length, heads}, {1, length, state}, {1, length, state}, {1, length, heads, width}};
    ov::Tensor& tensor = given.emplace_back(ov::element::f32, shapes[i]);
    for (std::size_t k = 0; k < tensor.get_size(); ++k)
      tensor.data<float>()[k] = i == 0 ? -std::abs(weight_at(i, k)) : weight_at(i, k);
    request.set_input_tensor(i, tensor);
  }
  request.infer();
  const auto at = [&](std::size_t input_index, std::size_t k) {
    return static_cast<double>(given[input_index].data<float>()[k]);
  };
  for (std::size_t h = 0; h < heads; ++h)
    for (std::size_t p = 0; p < width; ++p) {
      double kept[state] = {};
      for (std::size_t t = 0; t < length; ++t) {
        double y = 0, magnitude = 0;
        for (std::size_t n = 0; n < state; ++n) {
          kept[n] = std::exp(at(0, t * heads + h)) * kept[n] + at(1, t * state + n) * at(3, (t * heads + h) * width + p);
          y += at(2, t * state + n) * kept[n];
        }
        for (std::size_t s = 0; s <= t; ++s)
          for (std::size_t n = 0; n < state; ++n)
            magnitude += std::abs(at(2, t * state + n) * at(1, s * state + n) * at(3, (s * heads + h) * width + p));
        // Sums of 7 and 3 products, and exponents below 7 that are off by up to 7 half units in the last place of 7.
        const double bound = (7 + 3 + 2 + 7 * 7) * 0x1p-24 * magnitude;
        CHECK(std::abs(request.get_output_tensor().data<float>()[(t * heads + h) * width + p] - y) <= bound);
      }
    }
}

TEST_CASE("synthetic models see no later token, take any length, and are the same at every call") {
  const std::vector<checked_ir> models = small_models(), again = small_models();
  const std::vector<std::int32_t> tokens = tokens_below(11, 9);
  for (std::size_t m = 0; m < models.size(); ++m) {
    CAPTURE(models[m].path);
    ir_session session{models[m], "CPU", exact_settings(1), 1}, twin{again[m], "CPU", exact_settings(1), 1};
    const klens::matrix<float> logits = session.logits(tokens, 9);
    CHECK(same_bits(twin.logits(tokens, 9), logits));
    for (const Eigen::Index length : {1, 4, 8}) {
      const klens::matrix<float> beginning =
          session.logits(std::span(tokens).first(static_cast<std::size_t>(length)), static_cast<std::size_t>(length));
      CHECK((beginning - logits.topRows(length)).cwiseAbs().maxCoeff() < 1e-5f * logits.cwiseAbs().maxCoeff());
    }
    std::vector<std::int32_t> changed = tokens;
    changed[0] = (changed[0] + 1) % 11;
    CHECK((session.logits(changed, 9) - logits).row(8).cwiseAbs().maxCoeff() > 1e-4f * logits.cwiseAbs().maxCoeff());
  }
}

TEST_CASE("synthetic models have the matrices of their kind") {
  const std::vector<checked_ir> models = small_models();
  ir_model llama{models[0], 1}, mamba2{models[1], 1};
  CHECK(llama.layers().size() == 2 * 7 + 1);
  const std::vector<klens::layer> layers = mamba2.layers();
  REQUIRE(layers.size() == 2 * 2 + 1);
  CHECK(layers[0].name == "backbone.layers.0.mixer.in_proj.weight");
  CHECK(layers[0].rows() == 2 * 32 + 2 * 6 + 4);
  CHECK(layers[0].columns() == 16);
  CHECK_FALSE(layers.back().note.empty());
  CHECK_THROWS_AS((void)synthetic_model("mamba3"), klens::argument_error);
}
