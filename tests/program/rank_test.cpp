// klens rank on the embedded model: its scores are the truth, and what it prints is in order.
#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <klens/io/scores_json.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "program/klens.hpp"

namespace {

using support::calibration;
using support::embedded_model;
using support::run_klens;

const std::map<std::string, std::string> truth_schemes{{"int4-channel-f32", "int4-channel-f32"},
                                                       {"int8-channel-f32", "int8-channel-f32"},
                                                       {"int4-signed-g64-f32", "int4-signed-g64-f32"}};

nlohmann::json truth() {
  std::ifstream stream{KLENS_TEST_DATA "/truth-calibration.json"};
  return nlohmann::json::parse(stream);
}

// Names of layers in the order in which the table shows them.
std::vector<std::string> table_order(const std::string& output) {
  std::vector<std::string> names;
  std::istringstream lines{output};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words{line};
    std::string place, name;  // "3", or "3=" for those who share it
    if (words >> place >> name && name.ends_with(".weight") && std::isdigit(static_cast<unsigned char>(place[0])) != 0)
      names.push_back(name);
  }
  return names;
}

}  // namespace

TEST_CASE("klens rank: every score of the embedded model agrees with a float64 scan") {
  const support::temporary_folder folder;
  const auto file = folder / "scores.json";
  const auto result =
      run_klens("rank " + embedded_model + " --tokens " + calibration + " --sequences 16 --length 256 --first 0" +
                " --schemes int4-channel-f32,int8-channel-f32,int4-signed-g64-f32 --output '" + file.string() + "'");
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(result.errors.empty());
  const klens::scores scores = klens::read_scores(file).result;
  const nlohmann::json expected = truth();
  CHECK(scores.positions == 4096);
  CHECK(std::abs(scores.reference.nll() - expected.at("base_nll").get<double>()) < 2e-6);

  std::map<std::string, std::vector<std::pair<double, double>>> order;  // scheme -> (truth, ours)
  std::size_t rows = 0;
  for (const nlohmann::json& row : expected.at("layers")) {
    const std::string scheme = truth_schemes.at(row.at("scheme").get<std::string>());
    const klens::layer_score* ours = scores.find(row.at("name").get<std::string>(), scheme);
    REQUIRE(ours);
    INFO(ours->layer << " as " << scheme);
    const auto mean = [&](const char* metric) { return ours->metrics[scores.index_of(metric)].mean; };
    const auto near = [&](double value, const char* name, double relative) {
      const double true_value = row.at(name).get<double>();
      CHECK_MESSAGE(std::abs(value - true_value) <= relative * std::abs(true_value),
                    name << ": " << value << " against " << true_value);
    };
    // The promise is 0.3 %; a float forward moves each logit by about 1e-6, the quietest layer's by 1.7e-4 (its MSE is 2.7e-8):
    // twice their ratio, 1 %, bounds a single position; the mean over 4096 of them scatters far less.
    near(mean("kl"), "kl", 0.003);
    near(mean("reverse_kl"), "reverse_kl", 0.003);
    near(mean("mse"), "mse", 0.003);
    CHECK(std::abs(mean("sqnr") - row.at("sqnr_db").get<double>()) < 10 * std::log10(1.003));
    // The mean of 4080 differences of log-likelihoods, each off by at most a few 1e-6.
    CHECK(std::abs(mean("delta_ce") - row.at("delta_ce").get<double>()) < 2e-6);
    CHECK(std::abs(scores.perplexity(*ours) - row.at("ppl").get<double>()) < 2e-6 * 2 * 36);
    // A tie of two logits within 1e-6 may fall either way: allow two of the 4096.
    CHECK(std::abs(mean("top1") - row.at("top1").get<double>()) <= 2.0 / 4096);
    CHECK(std::abs(ours->weight_sqnr_db - row.at("weight_sqnr_db").get<double>()) < 1e-4);
    const auto& per_sequence = ours->metrics[scores.index_of("kl")].by_sequence;
    REQUIRE(per_sequence.size() == 16);
    for (std::size_t s = 0; s < 16; ++s)
      CHECK(std::abs(per_sequence[s].value / per_sequence[s].weight / row.at("kl_per_sequence")[s].get<double>() - 1) < 0.01);
    order[scheme].emplace_back(row.at("kl").get<double>(), mean("kl"));
    ++rows;
  }
  CHECK(rows == expected.at("layers").size());
  CHECK(rows > 114);
  for (auto& [scheme, pairs] : order) {
    std::ranges::sort(pairs);
    for (std::size_t i = 1; i < pairs.size(); ++i)
      if (pairs[i].first > 1.003 * pairs[i - 1].first) CHECK(pairs[i].second > pairs[i - 1].second);
  }
  // Every layer is there, and the tied head says so.
  CHECK(result.output.find("lm_head.weight: tied to the embedding: the perturbation reaches both uses") != std::string::npos);
}

TEST_CASE("klens rank: threads and batches change no score") {
  const support::temporary_folder folder;
  const std::string common = "rank " + embedded_model + " --tokens " + calibration +
                             " --sequences 3 --length 64 --schemes int8-channel --layers 'layers\\.[25]\\.' --output ";
  std::vector<nlohmann::json> candidates;
  for (const std::string options : {"--threads 1 --batch 1", "--threads 2 --batch 2", "--threads 5 --batch 3"}) {
    const auto file = folder / "scores.json";
    const auto result = run_klens(common + "'" + file.string() + "' " + options);
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    candidates.push_back(nlohmann::json::parse(support::content_of(file)).at("candidates"));
  }
  CHECK(candidates[0].size() == 14);
  CHECK(candidates[0] == candidates[1]);
  CHECK(candidates[0] == candidates[2]);
}

TEST_CASE("klens rank: each metric is sorted in its own direction") {
  const support::temporary_folder folder;
  const auto file = folder / "scores.json";
  for (const std::string metric : {"kl", "mse", "sqnr", "top1"}) {
    const auto result = run_klens("rank " + embedded_model + " --tokens " + calibration +
                                  " --sequences 2 --length 64 --schemes int4-channel --layers 'layers\\.0\\.' --sort " +
                                  metric + " --output '" + file.string() + "'");
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    const klens::scores scores = klens::read_scores(file).result;
    const std::vector<std::string> shown = table_order(result.output);
    REQUIRE(shown.size() == 7);
    const bool falls = metric == "sqnr" || metric == "top1";  // as damage rises
    const std::size_t m = scores.index_of(metric);
    for (std::size_t i = 1; i < shown.size(); ++i) {
      const double worse = scores.find(shown[i - 1], "int4-channel")->metrics[m].mean;
      const double better = scores.find(shown[i], "int4-channel")->metrics[m].mean;
      CHECK((falls ? worse <= better : worse >= better));
    }
  }
}

TEST_CASE("klens rank: scores.json has what other programs rely on") {
  const support::temporary_folder folder;
  const auto file = folder / "scores.json";
  const auto result = run_klens("rank " + embedded_model + " --tokens " + calibration +
                                " --sequences 2 --length 32 --first 7 --schemes int4-channel,fp16 --layers x_proj --output '" +
                                file.string() + "'");
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  const nlohmann::json json = nlohmann::json::parse(support::content_of(file));
  CHECK(json.at("format") == "klens-scores");
  CHECK(json.at("version") == 1);
  CHECK(json.at("model").at("fingerprint").get<std::string>().size() == 16);
  CHECK(json.at("tokens").at("sequences") == 2);
  CHECK(json.at("tokens").at("length") == 32);
  CHECK(json.at("tokens").at("first") == 7);
  CHECK(json.at("tokens").at("positions") == 64);
  CHECK(json.at("reference").at("perplexity").get<double>() == std::exp(json.at("reference").at("nll").get<double>()));
  CHECK(json.at("cost").at("peak_bytes").get<std::uint64_t>() > 1000000);
  const nlohmann::json& first = json.at("candidates").at(0);
  CHECK(first.at("layer") == "model.layers.0.mamba.x_proj.weight");
  CHECK(first.at("shape") == nlohmann::json{44, 384});
  CHECK(first.at("scheme") == "int4-channel");
  CHECK(first.at("bytes") == 44 * (192 + 2));
  CHECK(first.at("positions") == 64);
  for (const char* metric : {"kl", "reverse_kl", "js", "mse", "sqnr", "delta_ce", "top1"})
    for (const char* field : {"mean", "low", "high", "max"}) {
      const nlohmann::json& value = first.at("metrics").at(metric).at(field);
      CHECK((value.is_number() || value == "inf"));  // the interval of two sequences may reach noise 0, which is +inf dB
    }
  // The model is stored in fp16: that scheme changes nothing, and infinities are strings.
  const nlohmann::json& unchanged = json.at("candidates").at(1);
  CHECK(unchanged.at("result") == "weights_unchanged");
  CHECK(unchanged.at("metrics").at("kl").at("mean") == 0);
  CHECK(unchanged.at("metrics").at("sqnr").at("mean") == "inf");
}
