// klens validate: what it reports is recomputed here from its own candidates, by plain loops over pairs.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <klens/io/safetensors.hpp>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "program/klens.hpp"
#include "support/browser.hpp"
#include "support/near.hpp"
#include "support/times_in.hpp"

namespace {

using nlohmann::json;
using support::calibration;
using support::embedded_model;
using support::quoted;
using support::run_klens;

const std::string held_out = "'" + support::example_data + "/wikitext2-held-out.safetensors'";

// Eleven layers of a Mamba and an attention block under a mild and a harsh scheme, on a few short sequences.
const std::string model_and_layers =
    embedded_model + " --layers 'layers.2.(self|feed)|layers.3.mamba' --schemes int4-channel,int2-channel ";
const std::string small = "validate " + model_and_layers + "--tokens " + calibration + " --held-out " + held_out +
                          " --sequences 4 --length 32 --held-out-sequences 12 --resamples 200 ";

// One run for most of the tests.
struct reported {
  support::temporary_folder folder;
  support::program_result run;
  json report;
  std::string page;

  reported() {
    run = run_klens(small + "--all --ablations --output " + quoted(folder / "report.json") + " --html " +
                    quoted(folder / "page.html"));
    REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
    report = json::parse(support::content_of(folder / "report.json"));
    page = support::content_of(folder / "page.html");
  }
};
const reported& once() {
  static const reported result;
  return result;
}

double number(const json& value) { return value == "inf" ? std::numeric_limits<double>::infinity() : value.get<double>(); }

bool low_is_worse(const std::string& metric) { return metric == "sqnr" || metric == "weight_sqnr" || metric == "top1"; }

// A metric's scores, turned so that higher is worse, and the perplexity increases, 0 within their error.
struct two_lists {
  std::vector<double> scores, truth;
};
two_lists lists_of(const json& report, const std::string& metric, const json& scheme, bool significant_only) {
  two_lists lists;
  for (const json& each : report.at("candidates")) {
    if (!scheme.is_null() && each.at("scheme") != scheme) continue;
    const bool significant = each.at("significant").get<bool>();
    if (significant_only && !significant) continue;
    lists.scores.push_back((low_is_worse(metric) ? -1 : 1) * number(each.at("scores").at(metric)));
    lists.truth.push_back(significant ? each.at("perplexity_increase").at("value").get<double>() : 0);
  }
  return lists;
}

int sign(double a, double b) { return a < b ? -1 : a > b ? 1 : 0; }

double plain_tau(const two_lists& of) {
  double agree = 0, first = 0, second = 0;
  for (std::size_t i = 0; i < of.scores.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const int a = sign(of.scores[i], of.scores[j]), b = sign(of.truth[i], of.truth[j]);
      agree += a * b;
      first += a * a;
      second += b * b;
    }
  return agree / std::sqrt(first * second);
}

double rank_of(const std::vector<double>& values, std::size_t i) {
  double rank = 0;
  for (const double each : values) rank += (sign(values[i], each) + 1) / 2.0;
  return rank;
}

double plain_rho(const two_lists& of) {
  double xy = 0, xx = 0, yy = 0;
  const double middle = static_cast<double>(of.scores.size()) / 2;
  for (std::size_t i = 0; i < of.scores.size(); ++i) {
    const double x = rank_of(of.scores, i) - middle, y = rank_of(of.truth, i) - middle;
    xy += x * y;
    xx += x * x;
    yy += y * y;
  }
  return xy / std::sqrt(xx * yy);
}

}  // namespace

TEST_CASE("validate: the report has its fields, for every metric") {
  const json& report = once().report;
  CHECK(report.at("format") == "klens-validation");
  CHECK(report.at("version") == 1);
  CHECK(report.at("candidates").size() == 2 * 11);
  const std::set<std::string> expected{"kl",       "reverse_kl", "js",          "mse",        "sqnr",
                                       "delta_ce", "top1",       "weight_sqnr", "weight_mse", "size"};
  std::set<std::string> metrics, paired{"kl_minus_kl"};
  for (const auto& [name, verdict] : report.at("metrics").items()) {
    metrics.insert(name);
    CHECK(verdict.size() == 3);
    for (const char* each : {"kendall", "spearman"})
      for (const char* part : {"value", "low", "high"}) CHECK(verdict.at(each).contains(part));
    for (const char* share : {"5", "10", "20"}) CHECK(verdict.at("top_k_overlap").at(share).contains("value"));
  }
  for (const auto& [name, difference] : report.at("paired").items()) paired.insert(name);
  CHECK(metrics == expected);
  CHECK(paired.size() == expected.size());
  CHECK(paired.contains("kl_minus_sqnr"));
}

TEST_CASE("validate: tau, rho and paired differences are those of the candidates it lists") {
  const json& report = once().report;
  REQUIRE(report.at("groups").size() == 6);  // together and by scheme; all, and significant ones
  for (const json& group : report.at("groups"))
    for (const auto& [name, verdict] : group.at("metrics").items()) {
      const std::string metric = name;  // clang lets no lambda, and so no INFO, hold a structured binding
      const two_lists lists = lists_of(report, metric, group.at("scheme"), group.at("significant_only").get<bool>());
      INFO(metric << " of " << group.at("scheme"));
      CHECK(lists.scores.size() == group.at("candidates").get<std::size_t>());
      const double tau = plain_tau(lists), rho = plain_rho(lists);
      if (std::isnan(tau)) {
        CHECK(verdict.at("kendall").at("value").is_null());
        continue;
      }
      CHECK(std::abs(verdict.at("kendall").at("value").get<double>() - tau) < 1e-12);
      CHECK(std::abs(verdict.at("spearman").at("value").get<double>() - rho) < 1e-12);
      const json& kl = group.at("metrics").at("kl").at("kendall").at("value");
      if (metric != "kl")
        CHECK(std::abs(group.at("paired").at("kl_minus_" + metric).at("value").get<double>() - (kl.get<double>() - tau)) <
              1e-12);
    }
  CHECK(report.at("metrics") == report.at("groups").front().at("metrics"));
}

TEST_CASE("validate: a perplexity change within its own error is a tie, and is said to be one") {
  const json& report = once().report;
  std::size_t ties = 0;
  for (const json& each : report.at("candidates")) {
    const json& increase = each.at("perplexity_increase");
    const bool may_be_none = increase.at("low").get<double>() <= 0 && increase.at("high").get<double>() >= 0;
    CHECK(each.at("significant").get<bool>() != may_be_none);
    ties += may_be_none ? 1 : 0;
    const double expected = each.at("perplexity").get<double>() - report.at("perplexity").get<double>();
    // a difference of perplexities: each is good to a few roundings
    CHECK(increase.at("value").get<double>() == near{expected, 0, 1e-12 * report.at("perplexity").get<double>()});
  }
  CHECK(report.at("groups").front().at("ties") == ties);
  REQUIRE(ties > 0);
  CHECK(once().run.output.find("perplexity change of " + std::to_string(ties) + " lies within its own error") !=
        std::string::npos);
}

TEST_CASE("validate: no interval leaves what its statistic can be") {
  std::size_t seen = 0;
  const auto within = [&](const json& of, double least, double most) {
    if (of.at("low").is_null()) return;
    ++seen;
    CHECK(of.at("low").get<double>() >= least);
    CHECK(of.at("high").get<double>() <= most);
    CHECK(of.at("low").get<double>() <= of.at("value").get<double>());
    CHECK(of.at("high").get<double>() >= of.at("value").get<double>());
  };
  for (const json& group : once().report.at("groups")) {
    for (const auto& [metric, verdict] : group.at("metrics").items()) {
      within(verdict.at("kendall"), -1, 1);
      within(verdict.at("spearman"), -1, 1);
      for (const auto& [share, overlap] : verdict.at("top_k_overlap").items()) within(overlap, 0, 1);
    }
    for (const auto& [metric, apart] : group.at("paired").items()) within(apart, -2, 2);
  }
  CHECK(seen > 100);
}

TEST_CASE("validate: the verdict and one table come first, the rest with --all; few sequences give no verdict") {
  const auto brief = run_klens(small);
  REQUIRE_MESSAGE(brief.exit_code == 0, brief.errors);
  CHECK(support::times_in(brief.output, "\n") < 24);
  CHECK(support::times_in(brief.output, "int4-channel  ") == 5);                          // five metrics
  CHECK(support::times_in(brief.output, "no verdict from fewer than 8 sequences") == 4);  // two schemes, against mse and sqnr
  CHECK(brief.output.find("beats") == std::string::npos);
  CHECK(once().run.output.starts_with(brief.output.substr(0, brief.output.find("--all"))));
}

TEST_CASE("validate: scores are those of klens rank, perplexities those of klens evaluate") {
  const support::temporary_folder folder;
  const auto file = folder / "scores.json";
  const auto rank =
      run_klens("rank " + model_and_layers + "--tokens " + calibration + " --sequences 4 --length 32 --output " + quoted(file));
  REQUIRE_MESSAGE(rank.exit_code == 0, rank.errors);
  const json scores = json::parse(support::content_of(file));
  for (const json& each : once().report.at("candidates"))
    for (const json& other : scores.at("candidates"))
      if (other.at("layer") == each.at("layer") && other.at("scheme") == each.at("scheme")) {
        for (const auto& [metric, score] : other.at("metrics").items()) CHECK(each.at("scores").at(metric) == score.at("mean"));
        CHECK(each.at("scores").at("weight_sqnr") == other.at("weight_sqnr_db"));
      }
  const auto evaluate = run_klens("evaluate " + embedded_model + " --tokens " + held_out + " --sequences 12 --length 32");
  const std::size_t at = evaluate.output.find("perplexity");
  REQUIRE(at != std::string::npos);
  const double perplexity = std::strtod(evaluate.output.c_str() + at + 10, nullptr);
  CHECK(std::abs(once().report.at("perplexity").get<double>() - perplexity) < 1e-4);  // it prints four decimals
}

TEST_CASE("validate: weight-only baselines are of the weights alone") {
  const klens::safetensors weights{support::example_data + "/wikitext-hybrid-4m/model.safetensors"};
  for (const json& each : once().report.at("candidates")) {
    double squares = 0;
    const std::vector<klens::half> values = weights.values<klens::half>(each.at("layer").get<std::string>());
    for (const klens::half value : values) squares += std::pow(static_cast<double>(value), 2);
    const double energy = squares / static_cast<double>(values.size());
    const json& scores = each.at("scores");
    const double expected = energy / std::pow(10, scores.at("weight_sqnr").get<double>() / 10);
    CHECK(scores.at("weight_mse").get<double>() == near{expected, 1e-12});
    CHECK(scores.at("size").get<double>() == 2.0 * static_cast<double>(values.size()) - each.at("bytes").get<double>());
  }
}

TEST_CASE("validate: the same numbers from any number of threads, and from finished checkpoints") {
  const support::temporary_folder folder;
  const auto stem = folder / "state", first = folder / "first.json", second = folder / "second.json";
  const std::string kept = small + "--ablations --checkpoint " + quoted(stem) + " --output ";
  REQUIRE(run_klens(kept + quoted(first) + " --threads 1").exit_code == 0);
  CHECK(std::filesystem::exists(stem.string() + ".calibration"));
  CHECK(std::filesystem::exists(stem.string() + ".held-out"));
  REQUIRE(run_klens(kept + quoted(second) + " --threads 2").exit_code == 0);
  CHECK(json::parse(support::content_of(first)) == once().report);
  CHECK(json::parse(support::content_of(second)) == once().report);
  const auto other = run_klens(small + "--seed 2 --checkpoint " + quoted(stem) + " --output " + quoted(second));
  REQUIRE(other.exit_code == 0);
  const json reseeded = json::parse(support::content_of(second));
  const json& now = reseeded.at("metrics").at("kl").at("kendall");
  CHECK(now.at("value") == once().report.at("metrics").at("kl").at("kendall").at("value"));
  CHECK(reseeded.at("metrics") != once().report.at("metrics"));
}

TEST_CASE("validate: the tokens that an order takes; ablations from the same scan") {
  const json& report = once().report;
  REQUIRE(report.at("needs").size() == 2);
  for (const json& need : report.at("needs")) {
    const json& stability = need.at("stability");
    CHECK(stability.at("sequences") == json{1, 2, 4, 8, 12});
    CHECK(stability.at("kl").back().get<double>() > stability.at("delta_ce").back().get<double>());
    CHECK(need.at("positions_half_significant").get<double>() > 0);
    CHECK(need.at("sequences_like_one_of_kl").get<double>() > 1);
  }
  REQUIRE(report.at("ablations").size() == 2 * 3);  // schemes; 1, 2 and 4 sequences
  for (const json& each : report.at("ablations"))
    if (each.at("sequences") == 4)  // all of them: the verdict itself
      for (const json& group : report.at("groups"))
        if (group.at("scheme") == each.at("scheme") && !group.at("significant_only").get<bool>())
          for (const auto& [metric, tau] : each.at("kendall").items())
            CHECK(tau.at("value") == group.at("metrics").at(metric).at("kendall").at("value"));
}

TEST_CASE("validate: nothing on stderr in a pipe") { CHECK(once().run.errors.empty()); }

TEST_CASE("validate: a page with all points, in a browser") {
  const std::string& page = once().page;
  for (const char* load : {"http:", "https:", "src=", "href=", "url("}) CHECK(page.find(load) == std::string::npos);
  if (!support::has_browser()) {
    MESSAGE("skipped: chromium is not installed");
    return;
  }
  for (const std::size_t width : {360u, 1400u}) {
    const support::page_in_browser seen = support::look_at(page, width);
    REQUIRE(seen.loaded);
    CHECK(seen.points == 10 * (22 + 11 + 11));  // each metric's plot: together and by scheme
    CHECK_FALSE(seen.scrolls);
    CHECK(seen.first_hover.find("perplexity") != std::string::npos);
  }
}

TEST_CASE("validate: calibration text cannot be held out") {
  const support::temporary_folder folder;
  const auto output = folder / "report.json", page = folder / "page.html";
  const std::string common = "validate " + model_and_layers + "--tokens " + calibration +
                             " --sequences 4 --length 32 --output " + quoted(output) + " --html " + quoted(page) +
                             " --held-out ";
  check_refused(run_klens(common + calibration + " --held-out-sequences 4"), "also calibration text");
  check_refused(run_klens(common + calibration + " --held-out-sequences 4 --held-out-first 40"), "also calibration text");
  const klens::safetensors tokens{support::example_data + "/wikitext2-calibration.safetensors"};
  std::vector<std::int32_t> ids;
  for (const std::int64_t each : tokens.integers("input_ids")) ids.push_back(static_cast<std::int32_t>(each));
  const std::vector<std::int32_t> shifted(ids.begin() + 60, ids.begin() + 500);  // the same text by another name, cut elsewhere
  klens::write_safetensors(folder / "copy.safetensors",
                           std::vector{klens::as_tensor<std::int32_t>("input_ids", {shifted.size()}, shifted)});
  check_refused(run_klens(common + quoted(folder / "copy.safetensors")), "also calibration text");
  CHECK_FALSE(std::filesystem::exists(output));
  CHECK_FALSE(std::filesystem::exists(page));
}

TEST_CASE("validate: what no interval can rest on is refused before the work") {
  const std::string common = "validate " + model_and_layers + "--tokens " + calibration + " --held-out " + held_out;
  check_refused(run_klens(common + " --sequences 1 --length 32 --held-out-sequences 4"), "at least 2");
  check_refused(run_klens(common + " --sequences 4 --length 32 --held-out-sequences 1"), "at least 2");
  check_refused(run_klens(common + " --sequences 4 --length 1 --held-out-sequences 4"), "--length 1");
  check_refused(run_klens(common + " --sequences 4 --length 32 --html /nowhere/page.html"), "/nowhere/page.html");
  check_refused(run_klens("validate " + embedded_model + " --tokens " + calibration + " --held-out " + held_out +
                          " --schemes int9-channel"),
                "int9");
}

// Laws between KL and MSE: the mean change of a row is part of its MSE; KL of a quiet layer is half the variance of the change
// under P; probabilities change by at most as much as sqrt(2 KL) in sum, so by less in squares.
TEST_CASE("klens validate --explain: metrics between KL and MSE are what they are called, and stand in every table") {
  const support::temporary_folder folder;
  const auto run = run_klens(
      "validate " + embedded_model + " --layers 'layers.2.(self|feed)' --schemes int8-channel --tokens " + calibration +
      " --held-out " + held_out + " --sequences 8 --length 16 --held-out-sequences 8 --resamples 100 --explain --all" +
      " --output " + quoted(folder / "report.json"));
  REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
  const json report = json::parse(support::content_of(folder / "report.json"));
  for (const json& each : report.at("candidates")) {
    const json& scores = each.at("scores");
    const double kl = scores.at("kl"), variance = scores.at("var_p"), centred = scores.at("mse_centred"),
                 mse = scores.at("mse");
    INFO(each.at("layer"));
    CHECK(std::abs(variance / (2 * kl) - 1) < 0.05);
    CHECK(centred < mse);
    CHECK(centred > 0);
    CHECK(scores.at("mse_p").get<double>() < 2 * kl);
    CHECK(scores.at("mse_likely").get<double>() > 0);
    // x / T has KL 1/T^2 as large where P does not change; flatter P weighs more tokens, but never more than all
    CHECK(scores.at("kl_t0.5").get<double>() > kl);
    CHECK(scores.at("kl_t2").get<double>() < kl);
  }
  for (const char* const name : {"kl_t0.5", "kl_t2", "var_p", "mse_centred", "mse_likely", "mse_p"}) {
    CHECK(report.at("metrics").contains(name));
    CHECK(run.output.find(name) != std::string::npos);
  }
}
