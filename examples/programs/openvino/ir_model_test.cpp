#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "ir_model.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <klens/error.hpp>
#include <klens/io/safetensors.hpp>
#include <string>

#include "test_models.hpp"

namespace {

using namespace openvino_adapter;

std::string refusal(const std::shared_ptr<ov::Model>& model) {
  try {
    ir_model{check_ir(model, "model.xml"), 1};
  } catch (const klens::file_error& caught) {
    return caught.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("layers are [out x in], whichever way the IR stores them, and named as after the conversion") {
  ir_model model{check_ir(tied_model(), "model.xml"), 1};
  const auto layers = model.layers();
  REQUIRE(layers.size() == 3);
  for (const klens::layer& each : layers) {
    CAPTURE(each.name);
    const klens::matrix<float> weights = each.load();
    CHECK(each.note.empty() == (each.name != "m.table.weight"));
    if (each.name == "m.up.weight") {  // stored [6 in x 3 out]
      REQUIRE(each.rows() == 3);
      REQUIRE(each.columns() == 6);
      CHECK(weights(2, 1) == static_cast<float>(ov::float16(weight_at(2, 1))));
    } else if (each.name == "m.down.weight") {  // stored [6 out x 3 in]
      REQUIRE(each.rows() == 6);
      CHECK(weights(1, 2) == weight_at(1, 2));
    } else {
      CHECK(each.name == "m.table.weight");
      CHECK(each.rows() == 5);
    }
  }
}

TEST_CASE("changed weights reach the logits at every use; put back, the logits are what they were, bit for bit") {
  ir_model model{check_ir(tied_model(), "model.xml"), 2};
  const std::vector<std::int32_t> tokens = ten_tokens();
  const klens::matrix<float> before = model.logits(tokens, 5);
  REQUIRE(before.rows() == 10);
  REQUIRE(before.cols() == 5);
  for (klens::layer& each : model.layers()) {
    CAPTURE(each.name);
    const klens::matrix<float> weights = each.load();
    each.store(2 * weights);
    // Twice the weights are twice the logits; the tied matrix is used twice. Powers of two round nowhere.
    const float factor = each.note.empty() ? 2.0f : 4.0f;
    CHECK(same_bits(model.logits(tokens, 5), factor * before));
    each.store(weights);
    CHECK(same_bits(model.logits(tokens, 5), before));
  }
}

TEST_CASE("logits do not depend on batch and threads") {
  const std::vector<std::int32_t> tokens = ten_tokens();
  ir_model one{check_ir(tied_model(), "model.xml"), 1}, three{check_ir(tied_model(), "model.xml"), 3};
  const klens::matrix<float> together = three.logits(tokens, 2);
  CHECK(same_bits(one.logits(tokens, 2), together));
  for (Eigen::Index s = 0; s < 5; ++s)
    CHECK(
        same_bits(one.logits(std::span(tokens).subspan(static_cast<std::size_t>(2 * s), 2), 2), together.middleRows(2 * s, 2)));
}

TEST_CASE("the shipped IR gives the logits of transformers, and takes its matrices back bit for bit") {
  const std::string folder = std::string{KLENS_EXAMPLE_DATA} + "/wikitext-parallel-2m";
  const klens::safetensors golden{folder + "/golden.safetensors"};
  std::vector<std::int32_t> tokens;
  for (const std::int64_t each : golden.integers("input_ids")) tokens.push_back(static_cast<std::int32_t>(each));
  ir_model model{read_ir(folder + "/ov/model.xml"), 2};
  REQUIRE(model.vocabulary() == 2048);
  const klens::matrix<float> logits = model.logits(tokens, 128);
  const klens::stored_tensor& stored = golden.at("logits");
  REQUIRE(stored.bytes.size() == static_cast<std::size_t>(logits.size()) * sizeof(float));
  klens::matrix<float> expected(logits.rows(), logits.cols());
  std::memcpy(expected.data(), stored.bytes.data(), stored.bytes.size());
  // The IR keeps its constants in f16, each of them off by up to 2^-11 of itself.
  CHECK((logits - expected).cwiseAbs().maxCoeff() < expected.cwiseAbs().maxCoeff() / 2048);

  std::vector<klens::layer> layers = model.layers();
  CHECK(layers.size() == 55);
  for (klens::layer* each : {&layers.front(), &layers[20], &layers.back()}) {
    const klens::matrix<float> weights = each->load();
    each->store(0.5f * weights);
    CHECK_FALSE(same_bits(model.logits(tokens, 128), logits));
    each->store(weights);
  }
  CHECK(same_bits(model.logits(tokens, 128), logits));
}

TEST_CASE("models that cannot be ranked are refused by name") {
  const auto with_head = [](const node& head, const ov::PartialShape& ids_shape = {-1, -1}) {
    const auto ids = token_ids(ids_shape);
    const node hidden = looked_up(constant(ov::element::f32, 5, 4, "table"), ids);
    return std::make_shared<ov::Model>(ov::OutputVector{product(hidden, head, true)}, ov::ParameterVector{ids});
  };
  const node head = constant(ov::element::f32, 5, 4, "head");
  CHECK(refusal(with_head(head)) == "accepted");
  CHECK(refusal(with_head(head, {4, -1})).find("takes 4 sequences at once") != std::string::npos);

  const node codes = converted(constant(ov::element::i8, 5, 4, "head_codes"), "head_floats");
  CHECK(refusal(with_head(codes)).find("compressed already: 'head_codes' holds i8") != std::string::npos);
  const node scaled = std::make_shared<op::Multiply>(codes, constant(ov::element::f32, 5, 1, "scale"));
  CHECK(refusal(with_head(scaled)).find("compressed already: 'head_codes' holds i8") != std::string::npos);

  const node turned = std::make_shared<op::Transpose>(constant(ov::element::f32, 4, 5, "turned"),
                                                      op::Constant::create(ov::element::i32, {2}, {1, 0}));
  CHECK(refusal(with_head(turned)).find("unknown layout") != std::string::npos);
  const node both_ways = constant(ov::element::f32, 4, 4, "square");
  const auto ids = token_ids();
  const node hidden = looked_up(constant(ov::element::f32, 5, 4, "table"), ids);
  CHECK(refusal(std::make_shared<ov::Model>(ov::OutputVector{product(product(hidden, both_ways, true), both_ways, false)},
                                            ov::ParameterVector{ids}))
            .find("unknown layout: 'square'") != std::string::npos);

  const auto mask = std::make_shared<op::Parameter>(ov::element::f32, ov::PartialShape{-1, -1, 5});
  mask->set_friendly_name("mask");
  const node masked = std::make_shared<op::Add>(product(hidden, head, true), mask);
  CHECK(refusal(std::make_shared<ov::Model>(ov::OutputVector{masked}, ov::ParameterVector{ids, mask}))
            .find("has 2 inputs (ids, mask)") != std::string::npos);

  const node pooled =
      std::make_shared<op::ReduceMean>(product(hidden, head, true), op::Constant::create(ov::element::i32, {1}, {1}));
  CHECK(refusal(std::make_shared<ov::Model>(ov::OutputVector{pooled}, ov::ParameterVector{ids})).find("has no logits output") !=
        std::string::npos);
}

TEST_CASE("a model of one length says so") {
  const auto ids = token_ids({1, 3});
  const node hidden = looked_up(constant(ov::element::f32, 5, 4, "table"), ids);
  const auto model = std::make_shared<ov::Model>(
      ov::OutputVector{product(hidden, constant(ov::element::f32, 5, 4, "head"), true)}, ov::ParameterVector{ids});
  ir_model three{check_ir(model, "model.xml"), 1};
  const std::vector<std::int32_t> tokens = ten_tokens();
  CHECK(three.logits(std::span(tokens).first(6), 3).rows() == 6);
  CHECK_THROWS_AS((void)three.logits(tokens, 5), klens::argument_error);
}
