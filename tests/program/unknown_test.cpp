// What nobody measured is not harmless, and no scheme is lossless: klens plan and klens sweep on small models in which a scan
// cannot see every layer, or whose weights fp16 does not hold.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <klens/io/plan_json.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/matrix.hpp>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "program/klens.hpp"

namespace {

using support::check_refused;
using support::quoted;
using support::run_klens;
using support::temporary_folder;

const std::string cases = KLENS_TEST_DATA "/cases/", golden = KLENS_TEST_DATA "/golden/";

// Other tokens than any that these models were ranked on.
std::string held_out(const temporary_folder& folder) {
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 128; ++i) ids.push_back((i * i * 7 + 3 * i) % 97);
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int32_t>("input_ids", {2, 64}, ids)};
  klens::write_safetensors(folder / "held-out.safetensors", tensors);
  return " --held-out " + quoted(folder / "held-out.safetensors");
}

std::filesystem::path ranked(const temporary_folder& folder, const std::string& model, const std::string& tokens,
                             const std::string& schemes) {
  const auto result = run_klens("rank '" + model + "' --tokens '" + tokens + "' --metrics kl,mse --schemes " + schemes +
                                " --output " + quoted(folder / "scores.json"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  return folder / "scores.json";
}

struct made_plan {
  klens::plan plan;
  std::string output;
};

made_plan planned(const temporary_folder& folder, const std::string& model, const std::string& options) {
  const auto result = run_klens("plan '" + model + "'" + held_out(folder) + " --scores " + quoted(folder / "scores.json") +
                                " " + options + " --output " + quoted(folder / "plan.json"));
  REQUIRE_MESSAGE(result.exit_code == 0, options << ": " << result.errors);
  return {klens::read_plan(folder / "plan.json"), result.output};
}

bool says(const std::string& output, const std::string& what) { return output.find(what) != std::string::npos; }

std::string scheme_of(const klens::plan& plan, const std::string& layer) {
  const std::string* const found = plan.scheme_of(layer);
  return found ? *found : "none";
}

const std::string moe = cases + "unreached-experts", moe_tokens = cases + "unreached-experts-tokens.safetensors";
const std::string only_experts = " --exclude '^(?!.*experts)' --apart ";
const std::string expert = "model.layers.1.feed_forward.experts.1.";  // no token of the file is routed to it

}  // namespace

TEST_CASE("an expert that no token reached keeps its weights, and is named; on the caller's word it may go") {
  const temporary_folder folder;
  (void)ranked(folder, moe, moe_tokens, "int2-channel,int8-channel");
  const made_plan made = planned(folder, moe, "--budget 10bpw" + only_experts);
  for (const char* part : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}) {
    CHECK(scheme_of(made.plan, expert + part) == "f32");
    CHECK(says(made.output, expert + part + " gets f32: as int2-channel, int8-channel its change reached no logit"));
  }
  CHECK(made.plan.unknown.size() == 6);
  CHECK(!made.plan.rests_on_assumptions());
  CHECK(says(made.output, "proven for the layers whose damage is known"));
  CHECK(says(made.output, "not known: what these layers lose"));
  CHECK(std::ranges::count(made.plan.layers, "f32", &klens::layer_scheme::scheme) == 3);  // what was measured has its scheme

  // With too little room the plan is refused, and the message says why.
  const auto small = run_klens("plan '" + moe + "'" + held_out(folder) + " --scores " + quoted(folder / "scores.json") +
                               " --budget 5bpw" + only_experts);
  check_refused(small, "nothing fits");
  check_refused(small, "the damage of 3 layers is unknown (" + expert);

  const made_plan assumed = planned(folder, moe, "--budget 5bpw --assume-harmless 'experts\\.1\\.'" + only_experts);
  CHECK(scheme_of(assumed.plan, expert + "up_proj.weight") == "int2-channel");
  CHECK(assumed.plan.rests_on_assumptions());
  CHECK(says(assumed.output, "assumed harmless, not measured:\n  " + expert));
  CHECK(!says(assumed.output, "proven"));
  CHECK(says(assumed.output, "if what is assumed harmless is"));
  check_refused(run_klens("plan '" + moe + "'" + held_out(folder) + " --scores " + quoted(folder / "scores.json") +
                          " --budget 5bpw --assume-harmless nowhere"),
                "'nowhere' matches no layer");
}

TEST_CASE("experts that share a scheme keep it together where one of them was not reached") {
  const temporary_folder folder;
  (void)ranked(folder, moe, moe_tokens, "int2-channel,int8-channel");
  const klens::plan plan = planned(folder, moe, "--budget 24bpw --exclude '^(?!.*experts)'").plan;
  for (const klens::layer_scheme& each : plan.layers)
    CHECK_MESSAGE((each.scheme == "f32") == each.layer.starts_with("model.layers.1."), each.layer);
}

TEST_CASE("klens sweep: no point of the curve takes an expert that nobody reached for harmless") {
  const temporary_folder folder;
  (void)ranked(folder, moe, moe_tokens, "int2-channel,int8-channel");
  const auto result = run_klens("sweep '" + moe + "'" + held_out(folder) + " --scores " + quoted(folder / "scores.json") +
                                " --budgets 2 --metrics kl,size --output " + quoted(folder / "sweep.json") + only_experts);
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(says(result.output, "not known: what these layers lose"));
  const nlohmann::json json = nlohmann::json::parse(support::content_of(folder / "sweep.json"));
  CHECK(json.at("unknown").size() == 6);
  // The smallest plan has three matrices of 40 x 48 in float, the others in int2 (10 and 12 bytes a row, and a scale of 2).
  std::uint64_t smallest = ~std::uint64_t{0};
  for (const nlohmann::json& each : json.at("points"))
    if (each.at("allocator") != "uniform") smallest = std::min(smallest, each.at("bytes").get<std::uint64_t>());
  CHECK(smallest > 3 * 4 * 40 * 48);
}

TEST_CASE("a layer that an interrupted scan never came to keeps its weights, and so does what shares a scheme with it") {
  const temporary_folder folder;
  const std::string model = golden + "llama";
  const auto file = ranked(folder, model, golden + "llama/golden.safetensors", "int4-channel,int8-channel");
  nlohmann::json json = nlohmann::json::parse(support::content_of(file));
  for (nlohmann::json& each : json.at("candidates"))
    if (each.at("layer") == "model.layers.0.self_attn.k_proj.weight") each["result"] = "not_measured";
  std::ofstream{file} << json;
  const made_plan made = planned(folder, model, "--budget 9bpw");
  for (const char* part : {"q", "k", "v"})
    CHECK(scheme_of(made.plan, std::string{"model.layers.0.self_attn."} + part + "_proj.weight") == "f32");
  CHECK(says(made.output, "k_proj.weight gets f32: as int4-channel, int8-channel it was not measured"));
  CHECK(scheme_of(made.plan, "model.layers.0.self_attn.o_proj.weight") != "f32");
}

TEST_CASE("fp16 is not taken for lossless: its damage is measured, and the fall-back holds the weights") {
  const temporary_folder folder;
  const std::string model = golden + "llama";  // ordinary floats: fp16 rounds them
  (void)ranked(folder, model, golden + "llama/golden.safetensors", "int4-channel,fp16");
  const made_plan halves = planned(folder, model, "--budget 200% --pin '.=fp16'");
  CHECK(halves.plan.predicted.at("kl") > 0);
  CHECK(halves.plan.baselines.at("fp16").kl > 0);
  CHECK(halves.plan.baselines.at("f32").kl == 0);
  CHECK(halves.plan.measured->kl == halves.plan.baselines.at("fp16").kl);
}

TEST_CASE("klens rank: a path that is no UTF-8 costs no scan") {
  const temporary_folder folder;
  const std::filesystem::path tokens = folder / "caf\xe9.safetensors";
  std::filesystem::copy_file(golden + "llama/golden.safetensors", tokens);
  (void)ranked(folder, golden + "llama", tokens.string(), "int8-channel");
  const nlohmann::json json = nlohmann::json::parse(support::content_of(folder / "scores.json"));
  CHECK(json.at("tokens").at("file").get<std::string>().ends_with("caf\xef\xbf\xbd.safetensors"));
  CHECK(json.at("complete") == true);
}
