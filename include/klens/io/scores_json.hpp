#pragma once
// Scores as JSON, out and in again. Needs nlohmann-json; not part of klens.hpp.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/io/detail/band_values.hpp>
#include <klens/io/detail/json_values.hpp>
#include <klens/io/json_text.hpp>
#include <klens/quant/scheme_names.hpp>
#include <klens/rank/ranking.hpp>
#include <klens/rank/scores.hpp>
#include <klens/site_kind.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Where scores come from: what a program knows and the library does not.
struct scores_origin {
  std::string model_path, model_fingerprint;
  std::string tokens_file, tokens_fingerprint;
  std::uint64_t length = 0;             ///< positions in a sequence
  std::uint64_t first = 0;              ///< the first token of the file that was used
  std::uint64_t peak_bytes = 0;         ///< of the process
  std::string rank_by;                  ///< the metric whose rankings are written along; they are not read back
  std::vector<std::uint64_t> sketch{};  ///< hashes of runs of the tokens, by which other tokens are seen to overlap with them
  std::uint64_t context = 0;  ///< positions whose keys and values the sizes of candidates count; 0: there are none among them
};

/// A scores.json, version 1.
struct scores_file {
  scores_origin origin;
  scores result;
};

namespace detail {

[[nodiscard]] inline nlohmann::json to_json(const metric_score& score) {
  return {{"mean", number(score.mean)}, {"low", number(score.low)},   {"high", number(score.high)},
          {"max", number(score.worst)}, {"at", score.worst_position}, {"by_sequence", sums_to_json(score.by_sequence)}};
}
[[nodiscard]] inline metric_score metric_score_from_json(const nlohmann::json& json) {
  return {number(json.at("mean")), number(json.at("low")), number(json.at("high")),
          number(json.at("max")),  count_at(json, "at"),   sums_from_json(json.at("by_sequence"))};
}

// One entry a metric, in the order of `metrics`.
[[nodiscard]] inline nlohmann::json to_json(const std::vector<metric_score>& scores_of,
                                            const std::vector<metric_info>& metrics) {
  nlohmann::json json = nlohmann::json::object();
  for (std::size_t m = 0; m < metrics.size(); ++m) json[metrics[m].name] = to_json(scores_of[m]);
  return json;
}
[[nodiscard]] inline std::vector<metric_score> metric_scores_from_json(const nlohmann::json& json,
                                                                       const std::vector<metric_info>& metrics) {
  std::vector<metric_score> scores_of;
  scores_of.reserve(metrics.size());
  for (const metric_info& metric : metrics) scores_of.push_back(metric_score_from_json(json.at(metric.name)));
  return scores_of;
}

[[nodiscard]] inline nlohmann::json candidate_without_bands(const layer_score& each, const scores& all) {
  return {{"layer", each.layer},
          {"kind", each.kind},
          {"site", name_of(each.site)},
          {"shape", {each.rows, each.columns}},
          {"scheme", each.scheme},
          {"note", each.note},
          {"bytes", each.bytes},
          {"positions", each.positions},
          {"result", text_of(each.result, outcomes)},
          {"reason", each.reason},
          {"left", each.result == outcome::failed ? "failed"
                   : is_settled(each.place)       ? "settled"
                                                  : "end"},
          {"place", text_of(each.place, places)},
          {"weight_sqnr_db", number(each.weight_sqnr_db)},
          {"source", text_of(each.source, sources)},
          {"local_energy", number(each.local_energy)},
          {"gain", number(each.gain)},
          {"metrics", to_json(each.metrics, all.metrics)},
          {"perplexity", number(all.perplexity(each))}};
}
[[nodiscard]] inline nlohmann::json candidate_to_json(const layer_score& each, const scores& all) {
  nlohmann::json json = candidate_without_bands(each, all);
  if (each.by_position.empty()) return json;
  json["by_position"] = to_json(each.by_position);
  json["growth_per_doubling"] = to_json(growth_of(each.by_position));
  return json;
}
[[nodiscard]] inline layer_score candidate_from_json(const nlohmann::json& json, const std::vector<metric_info>& metrics) {
  layer_score each;
  each.layer = json.at("layer").get<std::string>();
  each.kind = json.at("kind").get<std::string>();
  each.site = site_kind_of(json.value("site", "weights"));
  each.rows = count(json.at("shape").at(0), "shape");
  each.columns = count(json.at("shape").at(1), "shape");
  each.scheme = canonical_scheme_name(json.at("scheme").get_ref<const std::string&>());  // older versions wrote other names
  each.note = json.at("note").get<std::string>();
  each.bytes = count_at(json, "bytes");
  each.positions = count_at(json, "positions");
  each.result = value_of(json.at("result").get<std::string>(), outcomes);
  each.reason = json.value("reason", "");
  each.place = value_of(json.at("place").get<std::string>(), places);
  each.weight_sqnr_db = number(json.at("weight_sqnr_db"));
  each.source = value_of(json.value("source", "exact"), sources);
  if (json.contains("local_energy")) each.local_energy = number(json.at("local_energy"));
  if (json.contains("gain")) each.gain = number(json.at("gain"));
  each.metrics = metric_scores_from_json(json.at("metrics"), metrics);
  if (json.contains("by_position")) each.by_position = bands_from_json(json.at("by_position"));
  return each;
}

// What the order of each scheme's candidates is worth: ties, and the difference of each to its next.
[[nodiscard]] inline nlohmann::json rankings_to_json(const scores& all, const std::string& metric) {
  nlohmann::json rankings = nlohmann::json::array();
  for (const std::string& scheme : all.schemes()) {
    const ranking found = ranking_of(all, metric, scheme);
    nlohmann::json in_order = nlohmann::json::array();
    for (const ranked_place& each : found.places) {
      const auto& range = each.to_next.range;
      in_order.push_back({{"layer", each.candidate->layer},
                          {"group", each.group},
                          {"to_next",
                           {{"value", number(each.to_next.value)},
                            {"low", range ? number(range->low) : nullptr},
                            {"high", range ? number(range->high) : nullptr}}}});
    }
    rankings.push_back({{"scheme", scheme}, {"metric", metric}, {"stability", number(found.stability)}, {"places", in_order}});
  }
  return rankings;
}

}  // namespace detail

/// Scores as JSON: format "klens-scores", version 1. Every double comes back bit for bit.
[[nodiscard]] inline nlohmann::json to_json(const scores_file& file) {
  const scores& all = file.result;
  nlohmann::json metrics = nlohmann::json::array(), candidates = nlohmann::json::array(), quantized = nlohmann::json::array();
  for (const metric_info& each : all.metrics)
    metrics.push_back({{"name", each.name},
                       {"unit", each.unit},
                       {"higher_is_worse", each.higher_is_worse},
                       {"damage", detail::text_of(each.damage, detail::damage_scales)}});
  for (const layer_score& each : all.candidates) candidates.push_back(detail::candidate_to_json(each, all));
  for (const whole_score& each : all.quantized)
    quantized.push_back({{"scheme", each.scheme}, {"metrics", detail::to_json(each.metrics, all.metrics)}});
  return {{"format", "klens-scores"},
          {"version", 1},
          {"model", {{"path", file.origin.model_path}, {"fingerprint", file.origin.model_fingerprint}}},
          {"tokens",
           {{"file", file.origin.tokens_file},
            {"fingerprint", file.origin.tokens_fingerprint},
            {"sequences", all.sequences},
            {"length", file.origin.length},
            {"first", file.origin.first},
            {"positions", all.positions},
            {"run", all.tokens},
            {"context", file.origin.context},
            {"sketch", file.origin.sketch}}},
          {"reference",
           {{"nll", detail::number(all.reference.nll())},
            {"perplexity", detail::number(std::exp(all.reference.nll()))},
            {"by_sequence", detail::sums_to_json(all.reference.nll_by_sequence)}}},
          {"cost", {{"forwards", all.cost.forwards}, {"seconds", all.cost.seconds}, {"peak_bytes", file.origin.peak_bytes}}},
          {"complete", all.complete},
          {"expected_tau", detail::number(all.expected_tau)},
          {"metrics", metrics},
          {"quantized", quantized},
          {"noise", all.noise.empty() ? nlohmann::json() : detail::to_json(all.noise, all.metrics)},
          {"rankings", file.origin.rank_by.empty() ? nlohmann::json() : detail::rankings_to_json(all, file.origin.rank_by)},
          {"skipped", all.skipped},
          {"remarks", all.remarks},
          {"candidates", candidates}};
}

/// The other way. Throws argument_error for what is no klens-scores document of version 1.
[[nodiscard]] inline scores_file scores_from_json(const nlohmann::json& json) {
  try {
    if (json.at("format") != "klens-scores" || json.at("version") != 1)
      throw argument_error{"is not a klens-scores document of version 1"};
    scores_file file;
    const nlohmann::json &model = json.at("model"), &tokens = json.at("tokens"), &cost = json.at("cost");
    file.origin = {model.at("path").get<std::string>(),  model.at("fingerprint").get<std::string>(),
                   tokens.at("file").get<std::string>(), tokens.at("fingerprint").get<std::string>(),
                   detail::count_at(tokens, "length"),   detail::count_at(tokens, "first"),
                   detail::count_at(cost, "peak_bytes"), {}};
    if (tokens.contains("sketch"))
      for (const nlohmann::json& each : tokens.at("sketch")) file.origin.sketch.push_back(detail::count(each, "sketch"));
    if (tokens.contains("context")) file.origin.context = detail::count_at(tokens, "context");
    scores& all = file.result;
    for (const nlohmann::json& each : json.at("metrics"))
      all.metrics.push_back({each.at("name").get<std::string>(), each.at("unit").get<std::string>(),
                             each.at("higher_is_worse").get<bool>(),
                             detail::value_of(each.value("damage", "unknown"), detail::damage_scales)});
    for (const nlohmann::json& each : json.at("candidates"))
      all.candidates.push_back(detail::candidate_from_json(each, all.metrics));
    for (const nlohmann::json& each : json.at("quantized"))
      all.quantized.push_back({canonical_scheme_name(each.at("scheme").get_ref<const std::string&>()),
                               detail::metric_scores_from_json(each.at("metrics"), all.metrics)});
    if (!json.at("noise").is_null()) all.noise = detail::metric_scores_from_json(json.at("noise"), all.metrics);
    all.skipped = json.at("skipped").get<std::vector<std::string>>();
    all.remarks = json.value("remarks", std::vector<std::string>{});
    all.reference.nll_by_sequence = detail::sums_from_json(json.at("reference").at("by_sequence"));
    all.cost = {cost.at("forwards").get<double>(), cost.at("seconds").get<double>()};
    all.sequences = detail::count_at(tokens, "sequences");
    all.positions = detail::count_at(tokens, "positions");
    all.tokens = tokens.contains("run") ? detail::count_at(tokens, "run") : all.positions;
    all.complete = json.at("complete").get<bool>();
    if (json.contains("expected_tau")) all.expected_tau = detail::number(json.at("expected_tau"));
    return file;
  } catch (const nlohmann::json::exception& caught) {
    throw argument_error{std::string{"does not have the form of a klens-scores document: "} + caught.what()};
  }
}

/// Writes scores.json, whole or not at all. Throws file_error.
inline void write_scores(const std::filesystem::path& path, const scores_file& file) {
  write_file(path, json_text(to_json(file)));
}

/// The same of scores whose origin nobody needs to know.
inline void write_scores(const std::filesystem::path& path, const scores& result) {
  write_scores(path, scores_file{{}, result});
}

/// Reads scores.json. Throws file_error, which starts with the path.
[[nodiscard]] inline scores_file read_scores(const std::filesystem::path& path) {
  std::ifstream stream{path};
  if (!stream) throw file_error{path.string() + ": cannot be opened; is this the file that klens rank wrote?"};
  try {
    return scores_from_json(nlohmann::json::parse(stream));
  } catch (const nlohmann::json::exception& caught) {
    throw file_error{path.string() + ": is not JSON: " + caught.what()};
  } catch (const argument_error& caught) {
    throw file_error{path.string() + ": " + caught.what()};
  }
}

}  // namespace klens
