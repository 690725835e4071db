// klens sweep on the embedded model: the curve of size against quality, as JSON and as a page.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "program/klens.hpp"

namespace {

using support::embedded_model;
using support::run_klens;

const std::string held_out =
    " --held-out '" + support::example_data + "/wikitext2-held-out.safetensors' --sequences 1 --length 32 ";

}  // namespace

TEST_CASE("klens sweep: ten budgets for each allocator and metric, the front marked, as JSON and as a page") {
  const support::temporary_folder folder;
  const auto file = [&](const char* name) { return support::quoted(folder / name); };
  const auto ranked = run_klens("rank " + embedded_model + " --tokens " + support::calibration +
                                " --sequences 1 --length 64 --metrics kl,mse,sqnr --schemes int4-g32,int8-channel --output " +
                                file("scores.json"));
  REQUIRE_MESSAGE(ranked.exit_code == 0, ranked.errors);
  const std::string common = "sweep " + embedded_model + held_out + "--scores " + file("scores.json") + " --budgets 10 ";
  const auto result = run_klens(common + "--output " + file("sweep.json") + " --html " + file("sweep.html"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);

  const nlohmann::json json = nlohmann::json::parse(support::content_of(folder / "sweep.json"));
  CHECK(json.at("format") == "klens-sweep");
  const nlohmann::json& points = json.at("points");
  std::map<std::pair<std::string, std::string>, std::set<std::uint64_t>> budgets;
  std::map<std::pair<std::string, std::uint64_t>, double> exact;  // (metric, budget) -> predicted KL
  for (const nlohmann::json& each : points) {
    CHECK(each.at("bytes") <= each.at("budget_bytes"));
    CHECK(each.at("perplexity").get<double>() > 1);
    if (each.at("allocator") == "uniform") continue;
    budgets[{each.at("allocator"), each.at("metric")}].insert(each.at("budget_bytes").get<std::uint64_t>());
    if (each.at("allocator") == "exact" && each.at("metric") == "kl")
      exact[{"kl", each.at("budget_bytes")}] = each.at("predicted").at("kl");
  }
  CHECK(budgets.size() == 4 * 5);
  for (const auto& curve : budgets) CHECK_MESSAGE(curve.second.size() == 10, curve.first.first << " by " << curve.first.second);
  CHECK(points.size() == 4 * 5 * 10 + 3);  // and uniform fp16, int4-g32, int8-channel
  for (const nlohmann::json& each : points) {
    if (each.at("allocator") == "uniform") continue;  // may give layers that share here schemes of their own
    CHECK(exact.at({"kl", each.at("budget_bytes")}) <= each.at("predicted").at("kl").get<double>() * (1 + 1e-12));
  }
  // On a front is what no other point beats, by measured KL or by the predicted one, which uniform schemes have none of.
  const auto unbeaten = [&](const nlohmann::json& of, const auto& kl_of) {
    const auto number = [&](const nlohmann::json& point) {
      return kl_of(point).is_null() ? std::numeric_limits<double>::infinity() : kl_of(point).template get<double>();
    };
    const double bytes = of.at("bytes"), kl = number(of);
    return std::isfinite(kl) && std::ranges::none_of(points, [&](const nlohmann::json& other) {
             const double other_bytes = other.at("bytes"), other_kl = number(other);
             return other_bytes <= bytes && other_kl <= kl && (other_bytes < bytes || other_kl < kl);
           });
  };
  for (const nlohmann::json& each : points) {
    CHECK(each.at("pareto") == unbeaten(each, [](const nlohmann::json& point) { return point.at("kl"); }));
    CHECK(each.at("pareto_predicted") ==
          unbeaten(each, [](const nlohmann::json& point) { return point.at("predicted").at("kl"); }));
  }

  const std::string page = support::content_of(folder / "sweep.html");
  CHECK(page.find("<svg") != std::string::npos);
  CHECK(page.find("class='ring'") != std::string::npos);
  for (const char* far : {"http://", "https://", "src=", "@import"}) CHECK_MESSAGE(page.find(far) == std::string::npos, far);
}

TEST_CASE("klens sweep: bad input writes nothing") {
  const support::temporary_folder folder;
  const auto refused = [&](const std::string& options, const std::string& because) {
    support::check_refused(run_klens("sweep " + embedded_model + held_out + options), because);
  };
  const std::string output = " --output " + support::quoted(folder / "sweep.json");
  refused("--scores none.json", "--output, --html or both");
  refused("--scores none.json" + output, "none.json");
  refused("--scores none.json --budgets 1" + output, "--budgets");
  refused("--scores none.json --allocators exact,best" + output, "unknown allocator 'best'");
  CHECK(std::filesystem::is_empty(folder.path()));
}
