#include "compressed_ir.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <klens/error.hpp>
#include <klens/io/safetensors.hpp>
#include <limits>

#include "ir_model.hpp"
#include "test_models.hpp"

namespace {

using namespace openvino_adapter;

const std::string shipped = std::string{KLENS_EXAMPLE_DATA} + "/wikitext-parallel-2m";

// A folder that vanishes with its content.
struct scratch_folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("klens-openvino-test-" + std::to_string(::getpid()));
  scratch_folder() { std::filesystem::create_directories(path); }
  ~scratch_folder() { std::filesystem::remove_all(path); }
};

klens::matrix<float> logits_of(const checked_ir& ir, std::span<const std::int32_t> tokens, std::size_t length) {
  return ir_session{ir, "CPU", exact_settings(1), 1}.logits(tokens, length);
}

std::string refusal(const std::shared_ptr<ov::Model>& model, const klens::plan& plan) {
  checked_ir ir = check_ir(model, "model.xml");
  try {
    (void)store_plan(ir, plan, "plan.json");
  } catch (const klens::error& caught) {
    return caught.what();
  }
  return "accepted";
}

bool says(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

// Sums of products of magnitudes: what rounding errors of logits are relative to.
klens::matrix<float> magnitudes(ir_model& model, std::span<const std::int32_t> tokens, std::size_t length) {
  std::vector<klens::layer> layers = model.layers();
  std::vector<klens::matrix<float>> weights;
  for (klens::layer& each : layers) {
    weights.push_back(each.load());
    each.store(weights.back().cwiseAbs());
  }
  klens::matrix<float> sums = model.logits(tokens, length);
  for (std::size_t i = 0; i < layers.size(); ++i) layers[i].store(weights[i]);
  return sums;
}

}  // namespace

TEST_CASE("stored weights compute what klens' round trip does, for every form, odd rows and odd numbers of groups") {
  const std::vector<std::int32_t> tokens = ten_tokens();
  // tied table [5 x 6], up [3 x 6], down [6 x 3]: three groups of 2 or two of 3 in six columns, rows of three codes of 4 bits
  const std::vector<std::vector<std::string>> mixes{{"int4-channel"},
                                                    {"int4-signed-channel"},
                                                    {"int4-asym-channel"},
                                                    {"int8-channel"},
                                                    {"int8-signed-channel"},
                                                    {"int8-asym-channel"},
                                                    {"int4-g3"},
                                                    {"int4-signed-g3"},
                                                    {"int4-asym-g3"},
                                                    {"int8-g3"},
                                                    {"int8-asym-g3"},
                                                    {"int4-g2", "int4-channel"},
                                                    {"int4-asym-g2", "int4-asym-g3"},
                                                    {"int8-asym-g2", "int4-channel", "int4-asym-g2"},
                                                    {"fp16"},
                                                    {"bf16"},
                                                    {"int8-channel", "fp16", "bf16"}};
  for (const std::vector<std::string>& schemes : mixes) {
    CAPTURE(schemes.front());
    CAPTURE(schemes.back());
    checked_ir ir = check_ir(tied_model(), "model.xml");
    ir_model simulated{ir, 1};
    std::vector<klens::layer> layers = simulated.layers();
    std::vector<klens::layer> planned;  // in the order in which the schemes fit: table, up, down
    for (const char* name : {"m.table.weight", "m.up.weight", "m.down.weight"})
      planned.push_back(*std::ranges::find(layers, name, &klens::layer::name));
    std::vector<std::string> fitting = schemes;
    if (schemes.size() == 1) fitting = {schemes[0], schemes[0], schemes[0]};
    if (schemes.size() == 2) fitting = {schemes[0], schemes[0], schemes[1]};
    if (fitting[2].ends_with("g2")) std::swap(fitting[2], fitting[1]);
    const klens::plan plan = plan_of(planned, fitting);
    const klens::matrix<float> untouched = simulated.logits(tokens, 5);
    simulate(layers, plan);
    const klens::matrix<float> expected = simulated.logits(tokens, 5), sums = magnitudes(simulated, tokens, 5);
    const stored_plan stored = store_plan(ir, plan, "plan.json");
    CHECK(stored.untouched == 0);
    const klens::matrix<float> logits = logits_of(ir, tokens, 5);
    // Each side: sums of 6, 3 and 6 products, and each of the four weights that meet in a term was rounded once.
    const float bound = 2 * (6 + 3 + 6 + 4) * std::numeric_limits<float>::epsilon() / 2;
    CHECK(((logits - expected).cwiseAbs().array() <= bound * sums.array()).all());
    if (fitting[0] != "fp16") CHECK_FALSE(((untouched - expected).cwiseAbs().array() <= bound * sums.array()).all());
  }
}

TEST_CASE("matrices that a plan has not stay as they are, bit for bit") {
  checked_ir ir = check_ir(tied_model(), "model.xml");
  const klens::matrix<float> untouched = logits_of(ir, ten_tokens(), 5);
  CHECK(store_plan(ir, klens::plan{}, "plan.json").untouched == 3);
  CHECK(same_bits(logits_of(ir, ten_tokens(), 5), untouched));
}

TEST_CASE(
    "the shipped IR is stored in the plan's bytes, runs on compressed weights and computes what the plan was measured on") {
  const scratch_folder folder;
  const checked_ir original = read_ir(shipped + "/ov/model.xml");
  const klens::safetensors golden{shipped + "/golden.safetensors"};
  std::vector<std::int32_t> tokens;
  for (const std::int64_t each : golden.integers("input_ids")) tokens.push_back(static_cast<std::int32_t>(each));

  ir_model simulated{original, 2};
  std::vector<klens::layer> layers = simulated.layers();
  std::vector<std::string> schemes{"int4-signed-g32", "int8-signed-channel", "int4-asym-g64", "int8-asym-channel", "fp16"};
  const klens::plan plan = plan_of(layers, schemes);
  std::uint64_t in_f16 = 0, columns = 0;
  for (const klens::layer& each : layers) {
    in_f16 += 2 * each.rows() * each.columns();
    columns += each.columns();
  }
  const klens::matrix<float> untouched = simulated.logits(tokens, 128);
  simulate(layers, plan);
  const klens::matrix<float> expected = simulated.logits(tokens, 128);

  checked_ir ir = original;
  ir.model = original.model->clone();
  CHECK(store_plan(ir, plan, "plan.json").schemes.at("int4-asym-g64").layers == 11);
  write_ir(ir, folder.path / "plan.xml");
  const checked_ir written = read_ir(folder.path / "plan.xml");
  const float difference = (logits_of(written, tokens, 128) - expected).cwiseAbs().maxCoeff();
  CAPTURE(difference);
  CHECK(difference < expected.cwiseAbs().maxCoeff() * static_cast<float>(columns) * std::numeric_limits<float>::epsilon() / 2);

  const auto [compressed, all] = ir_session{written, "CPU", exact_settings(1), 1}.compressed_matrices();
  CHECK(all == 55);
  CHECK(compressed == 44);  // 11 are in f16
  const auto bytes = std::filesystem::file_size(folder.path / "plan.bin");
  const auto before = std::filesystem::file_size(shipped + "/ov/model.bin");
  // Each matrix but those in f16 has a shape for its groups, of two numbers, at most; equal constants are written once.
  CHECK(bytes <= before - in_f16 + plan.bytes + 16 * layers.size());
  CHECK(bytes + 16 * layers.size() >= before - in_f16 + plan.bytes);
}

TEST_CASE("a matrix behind leading ones keeps them, and the lookup of columns is refused") {
  const auto ids = token_ids();
  std::vector<float> values;
  for (std::size_t in = 0; in < 6; ++in)
    for (std::size_t out = 0; out < 3; ++out) values.push_back(weight_at(out, in));
  const auto up = std::make_shared<op::Constant>(ov::element::f32, ov::Shape{1, 1, 6, 3}, values);
  up->set_friendly_name("up");
  const node ranked = product(looked_up(constant(ov::element::f32, 5, 6, "table"), ids), up, false);  // [1, batch, length, 3]
  const node hidden = std::make_shared<op::Squeeze>(ranked, op::Constant::create(ov::element::i64, {1}, {0}));
  checked_ir ir =
      check_ir(std::make_shared<ov::Model>(ov::OutputVector{product(hidden, constant(ov::element::f32, 5, 3, "head"), true)},
                                           ov::ParameterVector{ids}),
               "model.xml");
  ir_model simulated{ir, 1};
  std::vector<klens::layer> layers = simulated.layers();
  const klens::plan plan = plan_of(std::span(layers).first(1), {"int4-g3"});
  REQUIRE(layers[0].name == "up");
  simulate(layers, plan);
  const klens::matrix<float> expected = simulated.logits(ten_tokens(), 5), sums = magnitudes(simulated, ten_tokens(), 5);
  (void)store_plan(ir, plan, "plan.json");
  const float bound = 2 * (6 + 3 + 3) * std::numeric_limits<float>::epsilon() / 2;
  CHECK(((logits_of(ir, ten_tokens(), 5) - expected).cwiseAbs().array() <= bound * sums.array()).all());

  const node table = constant(ov::element::f32, 6, 5, "table");
  const node columns = std::make_shared<op::Gather>(table, ids, op::Constant::create(ov::element::i32, {}, {1}));
  const node turned = std::make_shared<op::Transpose>(columns, op::Constant::create(ov::element::i64, {3}, {1, 2, 0}));
  klens::plan tied;
  tied.layers = {{"table", "int8-channel"}};
  tied.bytes = 5 * (6 + 2);
  CHECK(says(
      refusal(std::make_shared<ov::Model>(ov::OutputVector{product(turned, table, false)}, ov::ParameterVector{ids}), tied),
      "table is looked up by columns"));
}

TEST_CASE("layers of a plan are found by the end of a name, and a tied head by its own") {
  klens::plan plan;
  plan.layers = {{"up.weight", "int8-channel"}, {"lm_head.weight", "int8-channel"}};
  plan.bytes = 3 * (6 + 2) + 5 * (6 + 2);
  CHECK(refusal(tied_model(), plan) == "accepted");
}

TEST_CASE("plans that cannot be stored, or are another model's, are refused by name") {
  const auto plan_for = [](const std::string& layer, const std::string& scheme, std::uint64_t bytes) {
    klens::plan plan;
    plan.layers = {{layer, scheme}};
    plan.bytes = bytes;
    return refusal(tied_model(), plan);
  };
  CHECK(plan_for("m.up.weight", "int8-channel", 24) == "accepted");
  CHECK(says(plan_for("m.up.weight", "int3-channel", 1), "cannot store int3-channel, which the plan gives to m.up.weight"));
  CHECK(says(plan_for("m.up.weight", "q4_0", 1), "cannot store q4_0"));
  CHECK(says(plan_for("m.up.weight", "int4-channel-f32", 1), "leave -f32 away"));
  CHECK(says(plan_for("m.up.weight", "int4-g4", 1), "the groups do not divide its 6 columns"));
  CHECK(says(plan_for("p.weight", "int8-channel", 24),
             "plan.json: has a layer p.weight, but the matrices of model.xml are like"));
  CHECK(says(plan_for("m.up.weight", "int8-channel", 25), "counts 25 bytes, but its schemes take 24"));
  klens::plan twice;
  twice.layers = {{"m.up.weight", "int8-channel"}, {"up.weight", "int8-channel"}};
  CHECK(says(refusal(tied_model(), twice), "has m.up.weight of model.xml twice"));

  const scratch_folder folder;
  const checked_ir ir = check_ir(tied_model(), "model.xml");
  CHECK_THROWS_AS(write_ir(ir, folder.path / "missing" / "out.xml"), klens::file_error);
  CHECK_THROWS_AS(write_ir(ir, folder.path / "out.bin"), klens::file_error);
  CHECK(std::filesystem::is_empty(folder.path));
}

TEST_CASE("a written model is refused as compressed already") {
  checked_ir ir = check_ir(tied_model(), "model.xml");
  klens::plan plan;
  plan.layers = {{"m.up.weight", "int4-channel"}};
  plan.bytes = 3 * (3 + 2);
  (void)store_plan(ir, plan, "plan.json");
  CHECK(says(refusal(ir.model, plan), "compressed already: 'm.up.weight' holds i4"));
}
