#include <klens/plan/constraints.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <cmath>
#include <klens/plan/exact.hpp>
#include <set>
#include <string>
#include <vector>

#include "plan/units.hpp"

using klens::constrain;
using klens::plan_constraints;
using klens::plan_unit;
using tests::unit;

static plan_unit layer(const std::string& name, double damage = 1) {
  return unit(name, {{"int4", 4, damage}, {"int8", 8, damage / 256}, {"fp16", 16, 0}});
}

static std::vector<std::vector<std::string>> names(const std::vector<plan_unit>& units) {
  std::vector<std::vector<std::string>> all;
  for (const plan_unit& each : units) all.push_back(each.layers);
  return all;
}

static const std::vector<plan_unit> two_blocks{layer("model.layers.0.self_attn.q_proj.weight", 1),
                                               layer("model.layers.0.self_attn.k_proj.weight", 2),
                                               layer("model.layers.0.self_attn.v_proj.weight", 4),
                                               layer("model.layers.0.self_attn.o_proj.weight", 8),
                                               layer("model.layers.1.mamba.in_proj.weight"),
                                               layer("model.layers.1.feed_forward.gate_proj.weight"),
                                               layer("model.layers.1.feed_forward.up_proj.weight"),
                                               layer("model.layers.1.feed_forward.down_proj.weight"),
                                               layer("lm_head.weight")};

TEST_CASE("constraints: layers of a kind that engines fuse share a scheme") {
  const std::vector<plan_unit> units = constrain(two_blocks, {});
  CHECK(names(units) == std::vector<std::vector<std::string>>{
                            {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
                             "model.layers.0.self_attn.v_proj.weight"},
                            {"model.layers.0.self_attn.o_proj.weight"},
                            {"model.layers.1.mamba.in_proj.weight"},
                            {"model.layers.1.feed_forward.gate_proj.weight", "model.layers.1.feed_forward.up_proj.weight"},
                            {"model.layers.1.feed_forward.down_proj.weight"},
                            {"lm_head.weight"}});
  const plan_unit& qkv = units.front();
  CHECK(qkv.weights == 48);
  REQUIRE(qkv.choices.size() == 3);
  CHECK(qkv.choices[0].schemes == std::vector<std::string>{"int4", "int4", "int4"});
  CHECK(qkv.choices[0].bytes == 12);
  CHECK(qkv.choices[0].damage == 7);
  CHECK(qkv.choices[1].damage == 7.0 / 256);
  CHECK(constrain(two_blocks, {.together_by_kind = false}).size() == 9);
}

TEST_CASE("constraints: the experts of one block share, those of another are others") {
  const std::vector<plan_unit> units =
      constrain({layer("model.layers.1.feed_forward.experts.0.gate_proj.weight"),
                 layer("model.layers.1.feed_forward.experts.0.down_proj.weight"),
                 layer("model.layers.1.feed_forward.experts.11.gate_proj.weight"),
                 layer("model.layers.3.feed_forward.experts.0.gate_proj.weight"),
                 layer("model.layers.1.feed_forward.router.weight"), layer("model.layers.5.block_sparse_moe.w1.weight"),
                 layer("model.layers.5.block_sparse_moe.w2.weight"), layer("model.layers.5.block_sparse_moe.w3.weight")},
                {});
  CHECK(names(units) ==
        std::vector<std::vector<std::string>>{
            {"model.layers.1.feed_forward.experts.0.gate_proj.weight", "model.layers.1.feed_forward.experts.0.down_proj.weight",
             "model.layers.1.feed_forward.experts.11.gate_proj.weight"},
            {"model.layers.3.feed_forward.experts.0.gate_proj.weight"},
            {"model.layers.1.feed_forward.router.weight"},
            {"model.layers.5.block_sparse_moe.w1.weight", "model.layers.5.block_sparse_moe.w3.weight"},
            {"model.layers.5.block_sparse_moe.w2.weight"}});
}

TEST_CASE("constraints: experts that a file stacks in one tensor share as single ones do, whole or in parts") {
  const std::string block = "model.layers.1.feed_forward.experts.", granite = "model.layers.3.block_sparse_moe.";
  const std::vector<plan_unit> units =
      constrain({layer(block + "gate_up_proj[0]"), layer(block + "gate_up_proj[11]"), layer(block + "down_proj[0]"),
                 layer("model.layers.2.feed_forward.experts.gate_up_proj[0][up]"),
                 layer("model.layers.2.feed_forward.experts.gate_up_proj[0][gate]"), layer(granite + "input_linear.weight[0]"),
                 layer(granite + "input_linear.weight[1]"), layer(granite + "output_linear.weight[1]"),
                 layer("model.layers.3.shared_mlp.input_linear.weight"), layer("model.layers.4.mamba.in_proj.weight[z]"),
                 layer("model.layers.4.mamba.in_proj.weight[x]")},
                {});
  CHECK(names(units) ==
        std::vector<std::vector<std::string>>{
            {block + "gate_up_proj[0]", block + "gate_up_proj[11]", block + "down_proj[0]"},
            {"model.layers.2.feed_forward.experts.gate_up_proj[0][up]",
             "model.layers.2.feed_forward.experts.gate_up_proj[0][gate]"},
            {granite + "input_linear.weight[0]", granite + "input_linear.weight[1]", granite + "output_linear.weight[1]"},
            {"model.layers.3.shared_mlp.input_linear.weight"},
            {"model.layers.4.mamba.in_proj.weight[z]"},
            {"model.layers.4.mamba.in_proj.weight[x]"}});
}

TEST_CASE("constraints: patterns of one's own come before the kinds, and captures keep groups apart") {
  const std::vector<plan_unit> units =
      constrain(two_blocks, {.together = {R"((layers\.\d+)\.self_attn\.)", R"((layers\.\d+)\.feed_forward\.)"}});
  CHECK(units.size() == 4);
  CHECK(units[0].layers.size() == 4);
  CHECK(units[2].layers.size() == 3);
  CHECK(constrain(two_blocks, {.together = {"layers"}}).size() == 2);
}

TEST_CASE("constraints: who shares has only the schemes that all have") {
  const auto only = [](const char* name, std::initializer_list<tests::short_choice> choices) { return unit(name, choices); };
  const std::vector<plan_unit> units = constrain({only("b.q_proj.w", {{"int4", 4, 1}, {"q8_0", 9, 0.5}, {"int8", 8, 0}}),
                                                  only("b.k_proj.w", {{"int8", 8, 0}, {"int4", 4, 1}})},
                                                 {});
  REQUIRE(units.size() == 1);
  REQUIRE(units[0].choices.size() == 2);
  CHECK(units[0].choices[0].schemes.front() == "int4");
  CHECK(units[0].choices[1].schemes.front() == "int8");
  CHECK_THROWS_WITH_AS(
      (void)constrain({only("b.q_proj.w", {{"int4", 4, 1}}), only("b.k_proj.w", {{"int8", 8, 0}, {"fp16", 16, 0}})}, {}),
      "plan: these layers must share a scheme but have none in common (contradictory pins or missing "
      "candidates): b.q_proj.w has int4; b.k_proj.w has int8, fp16",
      klens::argument_error);
}

TEST_CASE("constraints: pins leave one choice, also to those who share; kept-out layers are gone") {
  const std::vector<plan_unit> units = constrain(
      two_blocks, {.pins = {{"lm_head", "fp16"}, {"k_proj", "int8"}}, .keep_out = {"mamba", R"(down_proj\.weight$)"}});
  CHECK(units.size() == 4);
  CHECK(units[0].choices.size() == 1);
  CHECK(units[0].choices[0].schemes == std::vector<std::string>{"int8", "int8", "int8"});
  CHECK(units[3].layers.front() == "lm_head.weight");
  CHECK(units[3].choices.size() == 1);
  CHECK(units[3].choices[0].bytes == 16);
}

TEST_CASE("constraints: contradictions and patterns without a layer are named") {
  const auto refused = [](const plan_constraints& with, const char* message) {
    CHECK_THROWS_WITH_AS((void)constrain(two_blocks, with), message, klens::argument_error);
  };
  refused({.pins = {{"lm_head", "fp16"}, {"head", "int8"}}},
          "plan: lm_head.weight is pinned to fp16 and to int8; drop one of the two");
  refused({.pins = {{"lm_head", "fp16"}}, .keep_out = {"lm"}},
          "plan: lm_head.weight is kept out and pinned to fp16; drop one of the two");
  refused({.pins = {{"q_proj", "int8"}, {"k_proj", "int4"}}},
          "plan: these layers must share a scheme but have none in common (contradictory pins or missing candidates): "
          "model.layers.0.self_attn.q_proj.weight has int8; model.layers.0.self_attn.k_proj.weight has int4; "
          "model.layers.0.self_attn.v_proj.weight has int4, int8, fp16");
  refused({.pins = {{"lm_head", "int3"}}},
          "plan: lm_head.weight is pinned to int3, which is not among its candidates (int4, int8, fp16); score it");
  refused({.pins = {{"x_proj", "int4"}}}, "plan: 'x_proj' matches no layer; compare it with their names");
  refused({.keep_out = {"^head"}}, "plan: '^head' matches no layer; compare it with their names");
  refused({.together = {"qkv"}}, "plan: 'qkv' matches no layer; compare it with their names");
  refused({.keep_out = {"("}}, "plan: '(' is not a regular expression");
  CHECK_THROWS_WITH_AS(
      (void)constrain(constrain(two_blocks, {}), {}),
      "plan: constraints start from single layers, and model.layers.0.self_attn.q_proj.weight (+2) are several",
      klens::argument_error);
  CHECK_THROWS_AS((void)constrain({layer(std::string(1'000'000, 'a'))}, {}), klens::argument_error);
  CHECK_THROWS_AS((void)constrain({layer("a"), layer("a")}, {}), klens::argument_error);
  CHECK_THROWS_AS((void)constrain({layer("a", std::nan(""))}, {}), klens::numeric_error);
}
