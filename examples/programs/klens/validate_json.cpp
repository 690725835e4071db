#include <cmath>
#include <klens/io/json_text.hpp>
#include <klens/io/scores_json.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "terminal.hpp"
#include "validate_report.hpp"

namespace programs {
namespace {

using klens::detail::number;

nlohmann::json to_json(const klens::estimate& of) {
  return {{"value", number(of.value)},
          {"low", of.range ? number(of.range->low) : nullptr},
          {"high", of.range ? number(of.range->high) : nullptr}};
}

nlohmann::json verdicts_json(const study& all, const study_group& group) {
  nlohmann::json metrics = nlohmann::json::object(), paired = nlohmann::json::object(), other = nlohmann::json::object();
  for (std::size_t m = 0; m < all.metrics.size(); ++m) {
    const metric_verdict& of = group.verdicts[m];
    const std::string& name = all.metrics[m].name;
    nlohmann::json overlap = nlohmann::json::object();
    for (std::size_t i = 0; i < top_shares.size(); ++i) overlap[text("%.0f", 100 * top_shares[i])] = to_json(of.top_overlap[i]);
    metrics[name] = {{"kendall", to_json(of.kendall)}, {"spearman", to_json(of.spearman)}, {"top_k_overlap", overlap}};
    if (name != "kl") paired["kl_minus_" + name] = to_json(of.kl_minus);
    other[name] = to_json(of.other_text);
  }
  return {{"metrics", metrics}, {"paired", paired}, {"other_text", other}, {"lean", to_json(group.lean)}};
}

nlohmann::json candidates_json(const study& all, double reference_perplexity) {
  nlohmann::json listed = nlohmann::json::array();
  for (std::size_t c = 0; c < all.candidates.size(); ++c) {
    const study_candidate& each = all.candidates[c];
    const klens::layer_score& score = *each.calibrated;
    nlohmann::json scores = nlohmann::json::object();
    for (const study_metric& metric : all.metrics) scores[metric.name] = number(metric.scores[c]);
    const auto increase = [&](double delta_ce) { return number(reference_perplexity * std::expm1(delta_ce)); };
    listed.push_back({{"layer", score.layer},
                      {"kind", score.kind},
                      {"scheme", score.scheme},
                      {"shape", {score.rows, score.columns}},
                      {"bytes", score.bytes},
                      {"scores", scores},
                      {"perplexity", number(each.perplexity)},
                      {"perplexity_increase",
                       {{"value", increase(each.delta_ce.value)},
                        {"low", increase(each.delta_ce.range->low)},
                        {"high", increase(each.delta_ce.range->high)}}},
                      {"significant", each.is_significant()},
                      {"needed_positions", number(each.needed)}});
  }
  return listed;
}

nlohmann::json needs_json(const study& all) {
  const auto count = [](const std::optional<std::size_t>& of) { return of ? nlohmann::json(*of) : nlohmann::json(); };
  nlohmann::json needs = nlohmann::json::array();
  for (const token_need& each : all.needs) {
    nlohmann::json kl = nlohmann::json::array(), delta_ce = nlohmann::json::array();
    for (const double tau : each.kl) kl.push_back(number(tau));
    for (const double tau : each.delta_ce) delta_ce.push_back(number(tau));
    needs.push_back({{"scheme", each.scheme},
                     {"positions_half_significant", number(each.half_significant)},
                     {"sequences_stable", count(each.stable)},
                     {"sequences_like_one_of_kl", count(each.like_one_of_kl)},
                     {"differs_from_kl", each.led_by_text},
                     {"stability", {{"sequences", each.sequences}, {"kl", kl}, {"delta_ce", delta_ce}}}});
  }
  return needs;
}

}  // namespace

std::string study_json(const study& all, const study_origin& origin) {
  const auto tokens = [](const std::string& file, const klens::scores& of) {
    return nlohmann::json{{"file", file}, {"sequences", of.sequences}, {"positions", of.positions}};
  };
  const double perplexity = std::exp(origin.measured->reference.nll());
  nlohmann::json report{{"format", "klens-validation"},
                        {"version", 1},
                        {"model", origin.model},
                        {"calibration", tokens(origin.calibration, *origin.calibrated)},
                        {"held_out", tokens(origin.held_out, *origin.measured)},
                        {"perplexity", klens::detail::number(perplexity)},
                        {"candidates", candidates_json(all, perplexity)},
                        {"needs", needs_json(all)},
                        {"left_out", all.left_out}};
  report.update(verdicts_json(all, all.groups.front()));
  for (const study_group& group : all.groups) {
    nlohmann::json part = verdicts_json(all, group);
    part["scheme"] = group.scheme.empty() ? nlohmann::json() : nlohmann::json(group.scheme);
    part["significant_only"] = group.significant_only;
    part["candidates"] = group.members.size();
    part["ties"] = group.ties;
    report["groups"].push_back(part);
  }
  for (const token_ablation& each : all.ablations) {
    nlohmann::json taus = nlohmann::json::object();
    for (std::size_t m = 0; m < each.kendall.size(); ++m) taus[all.metrics[m].name] = to_json(each.kendall[m]);
    report["ablations"].push_back({{"scheme", each.scheme}, {"sequences", each.sequences}, {"kendall", taus}});
  }
  return klens::json_text(report);
}

}  // namespace programs
