// What a model keeps while it runs, through the program: rank --sites, --by-position, evaluate --schemes, plan.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <klens/io/plan_json.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/io/scores_json.hpp>
#include <klens/quant/scheme.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program/klens.hpp"

namespace {

using support::check_refused;
using support::quoted;
using support::run_klens;
using support::temporary_folder;

const std::filesystem::path golden{KLENS_TEST_DATA "/golden"};

// Rows of tokens below 61, others for each seed.
std::string tokens_in(const temporary_folder& folder, std::size_t rows, std::size_t length, std::int64_t seed = 7) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(rows * length); ++i) ids.push_back((i * i * seed + 3 * i) % 61);
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int64_t>("input_ids", {rows, length}, ids)};
  const std::filesystem::path file = folder / ("tokens-" + std::to_string(seed) + "-" + std::to_string(length));
  klens::write_safetensors(file, tensors);
  return quoted(file);
}

std::string rank(const std::string& model, const std::string& rest) { return "rank " + quoted(golden / model) + " " + rest; }

bool says(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

}  // namespace

TEST_CASE("rank --sites: states, caches, convolutions and inputs stand beside weights, each with its schemes and size") {
  const temporary_folder folder;
  const auto run = run_klens(rank("jamba", "--tokens " + tokens_in(folder, 3, 40) +
                                               " --sites weights,activations,kv,state,conv --context 30 --metrics kl --schemes "
                                               "int8-channel,f32,kv=int4-channel,state=fp16,state=int8-channel --output " +
                                               quoted(folder / "scores.json")));
  REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
  const klens::scores_file file = klens::read_scores(folder / "scores.json");
  CHECK(file.origin.context == 30);
  std::map<klens::site_kind, std::size_t> counts;
  for (const klens::layer_score& each : file.result.candidates) {
    INFO(each.layer, " as ", each.scheme);
    ++counts[each.site];
    if (each.scheme == "f32") CHECK((each.result == klens::outcome::weights_unchanged && each.metrics[0].mean == 0));
    if (each.scheme != "f32" && each.site != klens::site_kind::weights) {
      CHECK(each.result == klens::outcome::measured);
      CHECK(each.metrics[0].mean > 0);
      CHECK(std::isnan(each.weight_sqnr_db));
    }
    if (each.site == klens::site_kind::kv) CHECK((each.scheme == "int4-channel" && each.rows == 60 && each.columns == 12));
    if (each.site == klens::site_kind::state) CHECK((each.scheme == "fp16" || each.scheme == "int8-channel"));
  }
  CHECK(counts.size() == 5);
  CHECK(counts[klens::site_kind::activations] + 2 == counts[klens::site_kind::weights]);  // the embedding gathers rows
  const klens::layer_score* const keys = file.result.find("model.layers.1.self_attn.keys", "int4-channel");
  REQUIRE(keys);
  CHECK(keys->bytes == 60 * klens::scheme{"int4-channel"}.bytes(12));
  const klens::layer_score* const state = file.result.find("model.layers.0.mamba.state", "fp16");
  REQUIRE(state);
  CHECK(state->bytes == 96 * 16 * 2);
  CHECK(state->metrics[0].mean < file.result.find("model.layers.0.mamba.state", "int8-channel")->metrics[0].mean);
  CHECK(says(run.output, "model.layers.0.mamba.state"));
  CHECK(says(run.output, "keeps these values exactly"));
}

TEST_CASE("rank --kv-by-channel and --activations-per-tensor: other scales, which the scores say and a plan takes over") {
  const temporary_folder folder;
  const auto scores_of = [&](const std::string& name, const std::string& options) {
    const auto run = run_klens(rank("jamba", "--tokens " + tokens_in(folder, 3, 40) +
                                                 " --sites activations,kv --metrics kl --schemes int8-channel,int4-channel " +
                                                 options + " --output " + quoted(folder / name)));
    REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
    return klens::read_scores(folder / name).result;
  };
  const klens::scores plain = scores_of("plain", ""), other = scores_of("other", "--kv-by-channel 16 --activations-per-tensor");
  REQUIRE(plain.candidates.size() == other.candidates.size());
  for (const klens::layer_score& each : other.candidates) {
    INFO(each.layer, " as ", each.scheme);
    const klens::layer_score& before = *plain.find(each.layer, each.scheme);
    CHECK(each.metrics[0].mean > 0);
    CHECK(each.metrics[0].mean != before.metrics[0].mean);
    if (each.site == klens::site_kind::activations) {
      CHECK(each.note == "one scale for all tokens of a sequence");
      // tokens of any size share a scale, so that small ones lose more
      if (each.scheme == "int4-channel" && each.kind != "lm_head.inputs")
        CHECK(each.metrics[0].mean > 0.5 * before.metrics[0].mean);
    } else {
      CHECK(each.note == "a scale for each channel and 16 positions; those of a group that is not full are floats");
      CHECK((each.rows == 2 * 12 * 3 && each.columns == 16));  // two heads of 12 channels, 40 positions in three groups
      CHECK(each.bytes == 72 * klens::scheme{each.scheme}.bytes(16));
    }
  }
  const auto planned =
      run_klens("plan " + quoted(golden / "jamba") + " --scores " + quoted(folder / "other") + " --held-out " +
                tokens_in(folder, 4, 40, 11) + " --budget 425kB --context 100 --output " + quoted(folder / "plan.json"));
  REQUIRE_MESSAGE(planned.exit_code == 0, planned.errors);
  const klens::plan found = klens::read_plan(folder / "plan.json");
  REQUIRE(found.at_run_time);
  CHECK((found.at_run_time->context == 100 && found.at_run_time->concurrent == 1));
  std::uint64_t bytes = 0;
  for (const klens::layer_scheme& each : found.layers)
    if (const auto* const known = other.find(each.layer, each.scheme)) bytes += 24 * 7 * klens::scheme{known->scheme}.bytes(16);
  CHECK(bytes > 0);
  CHECK(bytes <= found.bytes);
}

TEST_CASE("rank --sites with --method local predicts what sites do from their own stage") {
  const temporary_folder folder;
  const std::string tokens = tokens_in(folder, 8, 128);
  const auto scores_of = [&](const std::string& method) {
    const auto run =
        run_klens(rank("jamba", "--tokens " + tokens + " --sites kv,state,conv --metrics kl --schemes int4-channel --method " +
                                    method + " --output " + quoted(folder / method)));
    REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
    return klens::read_scores(folder / method).result;
  };
  const klens::scores local = scores_of("local"), exact = scores_of("exact");
  REQUIRE(local.candidates.size() == exact.candidates.size());
  CHECK(std::ranges::any_of(local.candidates, [](const auto& each) { return each.source == klens::score_source::local; }));
  for (const klens::layer_score& each : local.candidates) {
    INFO(each.layer);
    const double ratio = each.metrics[0].mean / exact.find(each.layer, each.scheme)->metrics[0].mean;
    CHECK(ratio > 0.1);
    CHECK(ratio < 10);
  }
}

TEST_CASE("--by-position: bands in table, file and page; error feedback takes away what adds up") {
  const temporary_folder folder;
  const std::string common =
      "--tokens " + tokens_in(folder, 3, 300) + " --sites state --metrics kl --schemes int4-channel --by-position";
  const auto run = run_klens(
      rank("mamba2", common + " --output " + quoted(folder / "scores.json") + " --html " + quoted(folder / "page.html")));
  REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
  CHECK(says(run.output, "kl in nats/token by position"));
  CHECK(says(run.output, "257-300"));
  const std::string page = support::content_of(folder / "page.html");
  CHECK(says(page, "by position in the sequence"));
  CHECK(says(page, "257-300"));
  const klens::scores scores = klens::read_scores(folder / "scores.json").result;
  for (const klens::layer_score& each : scores.candidates) {
    REQUIRE(each.by_position.size() == 3);
    double sum = 0;
    for (const klens::position_band& band : each.by_position)
      sum += band.mean * static_cast<double>(band.last - band.first + 1);
    CHECK(sum / 300 == doctest::Approx(each.metrics[0].mean).epsilon(1e-9));
    const bool flagged = says(run.output, "^ " + each.layer + ":");
    CHECK(flagged == klens::growth_of(each.by_position).grows());
  }
  const auto fed_back = run_klens(rank("mamba2", common + " --error-feedback --output " + quoted(folder / "fed-back.json")));
  REQUIRE_MESSAGE(fed_back.exit_code == 0, fed_back.errors);
  const klens::scores with = klens::read_scores(folder / "fed-back.json").result;
  CHECK(says(with.candidates.front().note, "with error feedback"));
  CHECK(with.candidates.front().metrics[0].mean != scores.candidates.front().metrics[0].mean);
}

TEST_CASE("evaluate --schemes: kinds of sites together beside the sum of their parts") {
  const temporary_folder folder;
  const auto run = run_klens("evaluate " + quoted(golden / "jamba") + " --tokens " + tokens_in(folder, 4, 50) +
                             " --schemes weights=int4-channel,activations=int8-channel --schemes "
                             "int4-channel,activations=int8-channel,kv=int8-channel --schemes state=f32");
  REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
  const auto kl_of = [&](const std::string& name, int column) {
    const std::size_t at = run.output.find("\n" + name + " ");
    REQUIRE_MESSAGE(at != std::string::npos, name);
    std::string line = run.output.substr(at + 1 + name.size());
    line.erase(line.find('\n'));
    double value = 0;
    for (int c = 0, read = 0; c <= column; ++c) {
      int used = 0;
      REQUIRE(std::sscanf(line.c_str() + read, "%lf%n", &value, &used) == 1);
      read += used;
    }
    return value;
  };
  const double w4 = kl_of("weights=int4-channel", 0), a8 = kl_of("activations=int8-channel", 0),
               kv8 = kl_of("kv=int8-channel", 0);
  CHECK(w4 > 0);
  CHECK(kl_of("state=f32", 0) == 0);
  const std::string w4a8 = "weights=int4-channel,activations=int8-channel", all = w4a8 + ",kv=int8-channel";
  CHECK(kl_of(w4a8, 2) == doctest::Approx(w4 + a8).epsilon(1e-4));
  CHECK(kl_of(all, 2) == doctest::Approx(w4 + a8 + kv8).epsilon(1e-4));
  CHECK(kl_of(all, 0) > 0.5 * w4);
  CHECK(kl_of(all, 3) == doctest::Approx(kl_of(all, 0) / kl_of(all, 2)).epsilon(2e-3));
}

TEST_CASE("plan: a budget of weights and run-time memory, for a context and several sequences") {
  const temporary_folder folder;
  const auto ranked = run_klens(rank("jamba", "--tokens " + tokens_in(folder, 4, 40) +
                                                  " --sites weights,activations,kv,state --metrics kl --schemes "
                                                  "int8-channel,int4-channel,state=fp16,state=int8-channel --output " +
                                                  quoted(folder / "scores.json")));
  REQUIRE_MESSAGE(ranked.exit_code == 0, ranked.errors);
  const auto plan = [&](const std::string& budget, const std::string& rest) {
    const auto run = run_klens("plan " + quoted(golden / "jamba") + " --scores " + quoted(folder / "scores.json") +
                               " --held-out " + tokens_in(folder, 4, 40, 11) + " --budget " + budget + " " + rest +
                               " --output " + quoted(folder / "plan.json"));
    REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
    CHECK(says(run.output, "run-time memory"));
    CHECK(says(run.output, "inputs of products take no memory"));
    return std::pair{klens::read_plan(folder / "plan.json"), run.output};
  };
  const klens::scores scores = klens::read_scores(folder / "scores.json").result;
  std::uint64_t largest = 0;  // everything in floats: weights as the file has them
  for (const auto& asked : {std::pair{"150kB", ""}, {"40%", "--context 2000 --concurrent 16"}}) {
    const char *const budget = asked.first, *const options = asked.second;  // clang 14 captures no structured binding
    INFO(budget, options);
    const auto [found, output] = plan(budget, options);
    CHECK(found.bytes <= found.budget_bytes);
    std::uint64_t bytes = 0;
    const std::uint64_t concurrent = *options == 0 ? 1 : 16, context = *options == 0 ? 40 : 2000;
    REQUIRE(found.at_run_time);
    CHECK((found.at_run_time->context == context && found.at_run_time->concurrent == concurrent));
    std::size_t at_run_time = 0;
    for (const klens::layer_scheme& each : found.layers) {
      const auto known = std::ranges::find(scores.candidates, each.layer, &klens::layer_score::layer);
      REQUIRE(known != scores.candidates.end());
      CHECK(known->site != klens::site_kind::activations);
      std::uint64_t rows = known->rows;
      if (known->site == klens::site_kind::kv) rows = rows / 40 * context;
      if (known->site != klens::site_kind::weights) {
        rows *= concurrent;
        ++at_run_time;
      }
      bytes += klens::scheme{each.scheme}.bytes(rows, known->columns);
    }
    CHECK(bytes == found.bytes);
    CHECK(at_run_time == 6);  // keys and values of two blocks, states of two
    CHECK(found.budget_bytes > largest);
    largest = found.budget_bytes;
  }
}

TEST_CASE("what cannot be: named, exit code 2") {
  const temporary_folder folder;
  const std::string tokens = "--tokens " + tokens_in(folder, 2, 32) + " ";
  check_refused(run_klens(rank("llama", tokens + "--sites state")), "the model has no site of the kind state");
  check_refused(run_klens(rank("mamba", tokens + "--sites weights,kv")), "the model has no site of the kind kv");
  check_refused(run_klens(rank("jamba", tokens + "--sites cache")), "unknown kind of site 'cache'");
  check_refused(run_klens(rank("jamba", tokens + "--sites kv,kv")), "named twice");
  check_refused(run_klens(rank("jamba", tokens + "--sites kv --schemes int4-g64")),
                "model.layers.1.self_attn.keys: int4-g64 has groups of 64, which would reach across its vectors of 12");
  check_refused(run_klens(rank("jamba", tokens + "--sites kv --schemes q8_0")), "q8_0 cannot store vectors of 12");
  check_refused(run_klens(rank("jamba", tokens + "--sites state --schemes int4-channel-gptq")),
                "looks at the inputs of a weight matrix");
  check_refused(run_klens(rank("jamba", tokens + "--sites kv --schemes state=fp16")), "which --sites does not ask for");
  check_refused(run_klens(rank("jamba", tokens + "--sites kv,state --schemes state=fp16")),
                "has no scheme for sites of the kind kv");
  check_refused(run_klens(rank("jamba", tokens + "--sites kv --context 33")), "--context 33: the sequences have 32 tokens");
  check_refused(run_klens(rank("jamba", tokens + "--context 16")), "--context: is of what the model keeps while it runs");
  check_refused(run_klens(rank("jamba", tokens + "--error-feedback")), "--error-feedback: is of sites of the kind state");
  check_refused(run_klens(rank("jamba", tokens + "--sites weights,state --kv-by-channel 32")),
                "--kv-by-channel: is of sites of the kind kv");
  check_refused(run_klens(rank("jamba", tokens + "--activations-per-tensor")),
                "--activations-per-tensor: is of sites of the kind activations");
  check_refused(run_klens(rank("hymba", tokens + "--sites kv --kv-by-channel 8")), "share keys and values");
  check_refused(run_klens(rank("jamba", tokens + "--by-position --metrics mse,kl")), "--by-position is of kl");
  check_refused(run_klens(rank("jamba", tokens + "--by-position --method local")), "needs the method exact");
  check_refused(run_klens(rank("jamba", tokens + "--by-position --from quantized")),
                "--by-position: only with --from reference");
  const std::string evaluate = "evaluate " + quoted(golden / "llama") + " " + tokens + "--schemes ";
  check_refused(run_klens(evaluate + "state=fp16"), "the model has no site of the kind state");
  check_refused(run_klens(evaluate + "int4-channel,weights=int8-channel"), "weights is there twice");
  check_refused(run_klens(evaluate + "kv=q8_0"), "q8_0 cannot store vectors of");
  check_refused(run_klens("evaluate " + quoted(golden / "llama") + " " + tokens + "--kv-by-channel 8"),
                "say with --schemes what is stored so");
}
