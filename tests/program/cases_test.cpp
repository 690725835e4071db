// What people report of such tools, each kind once more with an input of its own: tests/data/cases has the first ones, and
// masks_test and unknown_test try those and further ones of masks and of unknown damage.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <klens/io/atomic_file.hpp>
#include <klens/io/plan_json.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/io/scores_json.hpp>
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "program/klens.hpp"
#include "support/changed_folder.hpp"

namespace {

using support::changed_folder;
using support::check_refused;
using support::embedded_model;
using support::quoted;
using support::run_klens;
using support::temporary_folder;

const std::filesystem::path cases{KLENS_TEST_DATA "/cases"}, golden{KLENS_TEST_DATA "/golden"};

bool says(const std::string& output, const std::string& what) { return output.find(what) != std::string::npos; }

// Two rows of 32 tokens below 64, others for each seed.
std::filesystem::path write_tokens(const temporary_folder& folder, const std::string& name, std::int64_t seed) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < 64; ++i) ids.push_back((i * i * seed + 3 * i) % 61);
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int64_t>("input_ids", {2, 32}, ids)};
  klens::write_safetensors(folder / name, tensors);
  return folder / name;
}

// Ranks a model under some schemes and plans it, both on tokens of this file.
struct planned {
  temporary_folder folder;
  support::program_result ranked, run;
  klens::scores scores;
  klens::plan plan;

  planned(const std::filesystem::path& model, const std::string& schemes, const std::string& options) {
    const std::string scores_file = quoted(folder / "scores.json");
    ranked = run_klens("rank " + quoted(model) + " --tokens " + quoted(write_tokens(folder, "tokens", 7)) +
                       " --metrics kl --schemes " + schemes + " --output " + scores_file);
    REQUIRE_MESSAGE(ranked.exit_code == 0, ranked.errors);
    scores = klens::read_scores(folder / "scores.json").result;
    run = run_klens("plan " + quoted(model) + " --held-out " + quoted(write_tokens(folder, "held-out", 11)) + " --scores " +
                    scores_file + " " + options + " --output " + quoted(folder / "plan.json"));
    REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
    plan = klens::read_plan(folder / "plan.json");
  }
  [[nodiscard]] std::string scheme_of(const std::string& layer) const {
    const std::string* const found = plan.scheme_of(layer);
    return found ? *found : "none";
  }
  [[nodiscard]] klens::outcome result_of(const std::string& layer, const std::string& scheme) const {
    const klens::layer_score* const found = scores.find(layer, scheme);
    return found ? found->result : klens::outcome::not_measured;
  }
};

// A copy of a model whose weights a test may change: change(name, weights) for every tensor of floats.
class changed_weights {
 public:
  template <class Change>
  changed_weights(const std::filesystem::path& from, const Change& change)
      : model_{from, {}, [&](std::vector<klens::stored_tensor>& tensors) {
                 for (klens::stored_tensor& each : tensors) {
                   std::vector<float>& values = memory_.emplace_back(each.bytes.size() / sizeof(float));
                   std::memcpy(values.data(), each.bytes.data(), each.bytes.size());
                   change(each.name, values);
                   each.bytes = std::as_bytes(std::span(values));
                 }
               }} {}
  [[nodiscard]] const std::filesystem::path& path() const { return model_.path(); }

 private:
  std::list<std::vector<float>> memory_;
  changed_folder model_;
};

float as_bf16(float value) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & 0xffff0000u); }

}  // namespace

TEST_CASE("configs: what transformers writes into any config is passed over; a new field is named, and refused by --strict") {
  const temporary_folder folder;
  const std::string tokens = " --tokens " + quoted(write_tokens(folder, "tokens", 7));
  const auto with = [](const std::map<std::string, nlohmann::json>& more) {
    return changed_folder{golden / "falcon_h1", [more](nlohmann::json& fields) {
                            for (const auto& [name, value] : more) fields[name] = value;
                          }};
  };
  const changed_folder residue = with({{"_attn_implementation_autoset", true},
                                       {"transformers_version", "5.1.0.dev0"},
                                       {"problem_type", nullptr},
                                       {"begin_suppress_tokens", {1, 2}},
                                       {"task_specific_params", {{"summary", {{"beams", 2}}}}},
                                       {"tf_legacy_loss", false},
                                       {"id2label", {{"0", "LABEL_0"}}}});
  const auto without_speed = [](const std::string& output) { return output.substr(0, output.find("speed")); };
  const auto plain = run_klens("evaluate " + quoted(golden / "falcon_h1") + tokens);
  const auto known = run_klens("evaluate " + quoted(residue.path()) + tokens + " --strict");
  CHECK(known.errors.empty());
  CHECK(without_speed(known.output) == without_speed(plain.output));

  const changed_folder novel = with({{"gate_temperature", 2}, {"router_jitter", 0.1}});
  for (const std::string command : {"evaluate ", "rank "}) {
    const auto remarked = run_klens(command + quoted(novel.path()) + tokens);
    CHECK(remarked.exit_code == 0);
    CHECK(std::ranges::count(remarked.errors, '\n') == 1);
    CHECK(says(remarked.errors, "'gate_temperature'"));
    CHECK(says(remarked.errors, "'router_jitter'"));
    if (command == "evaluate ") CHECK(without_speed(remarked.output) == without_speed(plain.output));
    check_refused(run_klens(command + quoted(novel.path()) + tokens + " --strict"), "gate_temperature");
  }
  check_refused(run_klens("layers " + quoted(novel.path()) + " --strict"), "gate_temperature");
}

TEST_CASE("unknown damage: an MLP that is switched off by zeros keeps its weights, though no mixture of experts is near") {
  const changed_weights model{golden / "llama", [](const std::string& name, std::vector<float>& values) {
                                if (name == "model.layers.0.mlp.up_proj.weight") std::ranges::fill(values, 0.0f);
                              }};
  const planned made{model.path(), "int3-channel,int8-channel", "--budget 12bpw --apart"};
  const std::string mlp = "model.layers.0.mlp.";
  for (const char* part : {"gate_proj.weight", "down_proj.weight"}) {
    CHECK(made.result_of(mlp + part, "int3-channel") == klens::outcome::output_unchanged);
    CHECK(made.scheme_of(mlp + part) == "f32");
    CHECK(says(made.run.output, mlp + part + " gets f32: as int3-channel, int8-channel its change reached no logit"));
  }
  CHECK(made.result_of(mlp + "up_proj.weight", "int3-channel") == klens::outcome::weights_unchanged);  // which is known
  CHECK(made.scheme_of(mlp + "up_proj.weight") == "int3-channel");
  CHECK(made.scheme_of("model.layers.1.mlp.gate_proj.weight") != "f32");
}

TEST_CASE("unknown damage: an expert in a stacked tensor that no token reached, and those that share a scheme with it") {
  std::list<std::vector<std::byte>> memory;
  const changed_folder model(cases / "unreached-experts", {}, [&](std::vector<klens::stored_tensor>& tensors) {
    std::map<std::string, klens::stored_tensor> single;
    for (const klens::stored_tensor& each : tensors)
      if (each.name.find(".experts.") != std::string::npos) single.emplace(each.name, each);
    std::erase_if(tensors, [&](const klens::stored_tensor& each) { return single.contains(each.name); });
    for (int block = 0; block < 32; ++block) {
      const std::string prefix = "model.layers." + std::to_string(block) + ".feed_forward.experts.";
      std::vector<std::byte>&in = memory.emplace_back(), &out = memory.emplace_back();
      std::size_t count = 0, inner = 0, width = 0;
      for (; single.contains(prefix + std::to_string(count) + ".up_proj.weight"); ++count)
        for (const std::string part : {"gate_proj", "up_proj", "down_proj"}) {
          const klens::stored_tensor& from = single.at(prefix + std::to_string(count) + "." + part + ".weight");
          inner = part == "down_proj" ? from.shape[1] : from.shape[0];
          width = part == "down_proj" ? from.shape[0] : from.shape[1];
          std::vector<std::byte>& into = part == "down_proj" ? out : in;
          into.insert(into.end(), from.bytes.begin(), from.bytes.end());
        }
      if (count == 0) continue;
      tensors.push_back({prefix + "gate_up_proj", "F32", {count, 2 * inner, width}, in});
      tensors.push_back({prefix + "down_proj", "F32", {count, width, inner}, out});
    }
  });
  const temporary_folder folder;
  const std::string scores = quoted(folder / "scores.json");
  const auto ranked =
      run_klens("rank " + quoted(model.path()) + " --tokens " + quoted(cases / "unreached-experts-tokens.safetensors") +
                " --metrics kl --schemes int2-channel,int8-channel --output " + scores);
  REQUIRE_MESSAGE(ranked.exit_code == 0, ranked.errors);
  const auto plan_with = [&](const std::string& options) {
    const auto result = run_klens("plan " + quoted(model.path()) + " --held-out " +
                                  quoted(write_tokens(folder, "held-out", 11)) + " --scores " + scores +
                                  " --exclude '^(?!.*experts)' " + options + " --output " + quoted(folder / "plan.json"));
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    CHECK(says(result.output, "model.layers.1.feed_forward.experts.gate_up_proj[1] gets f32: as int2-channel, int8-channel"));
    return klens::read_plan(folder / "plan.json");
  };
  for (const klens::layer_scheme& each : plan_with("--budget 10bpw --apart").layers)
    CHECK_MESSAGE((each.scheme == "f32") == (each.layer.starts_with("model.layers.1.") && each.layer.ends_with("[1]")),
                  each.layer);
  for (const klens::layer_scheme& each : plan_with("--budget 24bpw").layers)
    CHECK_MESSAGE((each.scheme == "f32") == each.layer.starts_with("model.layers.1."), each.layer);
}

TEST_CASE("one candidate's failure: weights that fp16 and GGUF blocks cannot hold are left out with the reason, plans go on") {
  const std::string outlier = "model.layers.1.mlp.gate_proj.weight";
  const changed_weights model{cases / "padded-model", [&](const std::string& name, std::vector<float>& values) {
                                if (name == outlier) values[3] = 9e5f;
                              }};
  const planned made{model.path(), "int4-channel,q4_0,fp16,int8-channel-f32", "--budget 12bpw"};
  for (const char* scheme : {"int4-channel", "q4_0", "fp16"}) {
    CHECK(made.result_of(outlier, scheme) == klens::outcome::failed);
    CHECK(says(made.scores.find(outlier, scheme)->reason, scheme));
    CHECK(says(made.ranked.output, "! " + outlier + " as " + scheme + " was not scored: "));
    CHECK(says(made.run.output, std::string{scheme} + " cannot store "));  // q4_0 no rows of 48 either
  }
  CHECK(says(made.run.output, "fp16 cannot store 1 of the layers (" + outlier + "); there they are in f32\n"));
  CHECK(made.result_of(outlier, "int8-channel-f32") == klens::outcome::measured);
  CHECK(made.result_of("model.layers.0.mlp.gate_proj.weight", "q4_0") == klens::outcome::measured);
  CHECK((made.scheme_of(outlier) == "int8-channel-f32" || made.scheme_of(outlier) == "f32"));  // what holds it
  CHECK(std::ranges::count(made.plan.unknown, outlier, &klens::unknown_damage::layer) == 3);
  CHECK(made.plan.baselines.at("fp16").kl > 0);
}

TEST_CASE("the case of the outlier: the scan goes on and is written; under schemes with float scales there is a plan") {
  const std::filesystem::path model = cases / "outlier-model";
  const std::string outlier = "model.layers.2.mlp.down_proj.weight";
  const planned left{model, "int4-channel,int8-channel", "--budget 12bpw"};
  CHECK(left.result_of(outlier, "int4-channel") == klens::outcome::failed);
  CHECK(left.scheme_of(outlier) != "int4-channel");
  const temporary_folder folder;
  const auto validated =
      run_klens("validate " + quoted(model) + " --tokens " + quoted(write_tokens(folder, "tokens", 7)) + " --held-out " +
                quoted(write_tokens(folder, "held-out", 11)) + " --schemes int4-channel --layers 'layers.2' --resamples 100");
  CHECK_MESSAGE(validated.exit_code == 0, validated.errors);
  CHECK(says(validated.output, "- left out: " + outlier + " as int4-channel: it was not scored: batch 0: "));
  const planned made{model, "int4-channel-s32,int8-channel-s32", "--budget 5bpw"};
  CHECK(made.plan.bytes <= made.plan.budget_bytes);
  CHECK(made.plan.baselines.contains("f32"));
  CHECK(!made.plan.baselines.contains("fp16"));
  CHECK(made.plan.baselines.at("f32").kl == 0);
  for (const klens::layer_scheme& each : made.plan.layers) CHECK(each.scheme.ends_with("-f32"));
}

TEST_CASE("no scheme is lossless: weights beyond fp16's range fall back to bf16 where that holds all, else to f32") {
  const auto changed = [](bool rounded) {
    return changed_weights{golden / "mamba2", [rounded](const std::string& name, std::vector<float>& values) {
                             if (rounded)
                               for (float& each : values) each = as_bf16(each);
                             if (name.ends_with("layers.0.mixer.out_proj.weight")) values[0] = as_bf16(3e5f);
                           }};
  };
  for (const bool rounded : {true, false}) {
    const changed_weights model = changed(rounded);
    const planned made{model.path(), "int8-channel-f32", "--budget 40bpw"};
    const std::string holding = rounded ? "bf16" : "f32", other = rounded ? "f32" : "bf16";
    CHECK(made.plan.baselines.at(holding).kl == 0);
    CHECK(!made.plan.baselines.contains("fp16"));
    CHECK(!made.plan.baselines.contains(other));
    for (const klens::layer_scheme& each : made.plan.layers) CHECK(each.scheme == holding);
    CHECK(made.plan.measured->kl == 0);
  }
}

TEST_CASE("no token to predict: --length 1 in every command, and a mask that leaves one token in each row") {
  const temporary_folder folder;
  const std::string model = quoted(cases / "padded-model"), tokens = quoted(write_tokens(folder, "tokens", 7)),
                    held_out = " --held-out " + quoted(write_tokens(folder, "held-out", 11)),
                    scores = quoted(folder / "scores.json");
  REQUIRE(run_klens("rank " + model + " --tokens " + tokens + " --layers lm_head --output " + scores).exit_code == 0);
  const std::string planned_with = held_out + " --length 1 --scores " + scores + " --exclude '^(?!lm_head)'";
  check_refused(run_klens("plan " + model + planned_with + " --budget 5bpw"), "--length 1");
  check_refused(run_klens("sweep " + model + planned_with + " --output " + quoted(folder / "sweep.json")), "--length 1");
  check_refused(run_klens("validate " + model + " --tokens " + tokens + held_out + " --length 1"), "--length 1");

  std::vector<std::int64_t> ids(64, 5), mask(64, 0);
  mask[31] = mask[40] = 1;
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int64_t>("attention_mask", {2, 32}, mask),
                                                  klens::as_tensor<std::int64_t>("input_ids", {2, 32}, ids)};
  klens::write_safetensors(folder / "single", tensors);
  for (const char* command : {"evaluate ", "rank "})
    check_refused(run_klens(command + model + " --tokens " + quoted(folder / "single")), "leave no token to predict");
}

TEST_CASE("sequences beyond what a model was made for get a remark in every command, and none where no config says it") {
  const temporary_folder folder;
  const auto with_limit = [](const char* type, int limit) {
    return changed_folder{golden / type, [limit](nlohmann::json& fields) { fields["max_position_embeddings"] = limit; }};
  };
  const changed_folder model = with_limit("jamba", 20);
  const std::string path = quoted(model.path()), tokens = " --tokens " + quoted(write_tokens(folder, "tokens", 7)),
                    held_out = " --held-out " + quoted(write_tokens(folder, "held-out", 11)),
                    scores = quoted(folder / "scores.json"),
                    remark = "sequences of 32 tokens are longer than this model's max_position_embeddings of 20";
  const std::string only = " --layers lm_head --schemes int8-channel";
  const auto check_remark = [&](const std::string& arguments) {
    const auto result = run_klens(arguments);
    CHECK_MESSAGE(result.exit_code == 0, result.errors);
    CHECK_MESSAGE(says(result.errors, remark), arguments);
  };
  check_remark("rank " + path + tokens + only + " --output " + scores);
  check_remark("plan " + path + held_out + " --scores " + scores + " --exclude '^(?!lm_head)' --budget 9bpw");
  check_remark("sweep " + path + held_out + " --scores " + scores +
               " --exclude '^(?!lm_head)' --budgets 2 --metrics kl --output " + quoted(folder / "sweep.json"));
  check_remark("validate " + path + tokens + held_out + only + " --resamples 100");
  const auto fine = run_klens("rank " + path + tokens + only + " --length 20");
  CHECK(fine.exit_code == 0);
  CHECK(fine.errors.empty());
  CHECK(run_klens("evaluate " + quoted(golden / "mamba2") + tokens).errors.empty());  // positions play no part in it
}

TEST_CASE("formats that name no model_type: mamba-ssm's hybrids are named, with what converts them") {
  const temporary_folder folder;
  klens::write_file(folder / "config.json", R"({"d_model": 2560, "d_intermediate": 0, "n_layer": 64, "vocab_size": 50277,
    "ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": [9, 18], "attn_cfg": {"causal": true, "num_heads": 30}, "rms_norm": true})");
  for (const std::string command : {"evaluate ", "rank "})
    check_refused(run_klens(command + quoted(folder.path()) + " --tokens " + quoted(write_tokens(folder, "tokens", 7))),
                  "mamba-ssm's own format; convert the folder with convert_mamba_ssm_checkpoint_to_pytorch.py");
  check_refused(run_klens("layers " + quoted(folder.path())), "mamba-ssm's own format");
}

TEST_CASE(
    "what is wrong with the model ends the scan; what was measured until then is written, with --output and --checkpoint") {
  // The final norm's first number is 8e37, and the head does not read it: no more than 0 times a finite number, but for a token
  // whose embedding is all in that place, where it is 5.6 times as much, past all floats. The second sequence has that token.
  const changed_weights model{cases / "padded-model", [](const std::string& name, std::vector<float>& values) {
                                if (name == "model.embed_tokens.weight") values[63 * 32] = 1e6f;
                                if (name == "model.norm.weight") values[0] = 8e37f;
                                if (name == "lm_head.weight")
                                  for (std::size_t row = 0; row < 64; ++row) values[row * 32] = 0;
                              }};
  const temporary_folder folder;
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < 48; ++i) ids.push_back(i == 21 ? 63 : (i * i * 7 + 3 * i) % 61);
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int64_t>("input_ids", {3, 16}, ids)};
  klens::write_safetensors(folder / "tokens", tensors);
  const std::string scan = "rank " + quoted(model.path()) + " --tokens " + quoted(folder / "tokens") +
                           " --batch 1 --metrics kl --schemes int8-channel --layers lm_head --output ";
  const auto result = run_klens(scan + quoted(folder / "scores.json") + " --checkpoint " + quoted(folder / "checkpoint"));
  check_refused(result, "batch 1: the untouched model, sequence 0 of the batch, position 5: ");
  check_refused(result, "; what was measured until then is in " + (folder / "scores.json").string());
  const klens::scores found = klens::read_scores(folder / "scores.json").result;
  CHECK(!found.complete);
  REQUIRE(found.candidates.size() == 1);
  CHECK(found.candidates[0].result == klens::outcome::measured);
  CHECK(found.candidates[0].positions == 16);
  CHECK(std::filesystem::exists(folder / "checkpoint"));
  // Where nothing was measured, nothing is written.
  check_refused(run_klens(scan + quoted(folder / "rest.json") + " --first 16"), "batch 0: the untouched model");
  CHECK(!std::filesystem::exists(folder / "rest.json"));
}

#ifndef __SANITIZE_ADDRESS__  // whose shadow needs more than any limit
TEST_CASE("memory that runs out: one line that says what to make smaller, in each command, and what was measured is kept") {
  // An address space in which the model runs, and 64 sequences of 256 tokens at once do not (their reference logits take 134 MB).
  const auto limited = [](const std::string& arguments) {
    return support::run_program("ulimit -v 160000; '" KLENS_PROGRAM "' " + arguments + " --threads 1");
  };
  const temporary_folder folder;
  const std::string tokens = embedded_model + " --tokens " + support::calibration;
  const std::string rank = "rank " + tokens + " --layers lm_head --schemes int8-channel --sequences 64";
  CHECK(limited(rank + " --batch 1 --length 16").exit_code == 0);
  check_refused(limited(rank + " --batch 64"), "--batch");
  check_refused(limited("logits " + tokens + " --sequences 64 --length 256 --batch 64 --output " + quoted(folder / "logits")),
                "--batch");
}
#endif
