#pragma once
// A scan's checkpoint as a file. Needs nlohmann-json; not part of klens.hpp.

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/io/json_text.hpp>
#include <klens/io/scores_json.hpp>
#include <klens/rank/rank_options.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// What a scan is of: names and values (fingerprints of model and tokens, schemes, options) that must agree before it may go
/// on.
using scan_identity = std::map<std::string, std::string>;

namespace detail {

/// Throws argument_error for what no scan could have written: what goes on from it would read past the end of a list.
inline void expect_consistent(const scan_checkpoint& at) {
  const scores& all = at.so_far;
  if (at.batches > all.sequences || all.sequences > all.positions)
    throw argument_error{"have " + std::to_string(at.batches) + " batches, " + std::to_string(all.sequences) +
                         " sequences and " + std::to_string(all.positions) + " positions"};
  if (!(at.spent >= 0 && detail::is_finite(at.spent))) throw argument_error{"have cost " + number_text(at.spent) + " forwards"};
  if (const std::size_t known = all.reference.nll_by_sequence.size(); known != 0 && known != all.sequences)
    throw argument_error{"have a reference of " + std::to_string(known) + " sequences, not " + std::to_string(all.sequences)};
  for (const layer_score& each : all.candidates) {
    const std::string name = each.layer + " as " + each.scheme;
    const std::size_t seen = each.metrics.empty() ? 0 : each.metrics.front().by_sequence.size();
    if (seen > all.sequences || each.positions > all.positions)
      throw argument_error{"have more of " + name + " than of the reference"};
    if (each.place == standing::open && each.result != outcome::not_measured && seen != all.sequences)
      throw argument_error{"have " + std::to_string(seen) + " sequences of " + name + ", not " + std::to_string(all.sequences)};
    for (const metric_score& score : each.metrics)
      if (score.by_sequence.size() != seen) throw argument_error{"have metrics of " + name + " on different sequences"};
  }
}

}  // namespace detail

/// Writes a checkpoint, whole or not at all. Throws file_error; an older checkpoint then stays as it was.
inline void write_checkpoint(const std::filesystem::path& path, const scan_identity& identity, const scan_checkpoint& at) {
  const nlohmann::json json{
      {"format", "klens-checkpoint"}, {"version", 1},      {"of", identity},
      {"batches", at.batches},        {"spent", at.spent}, {"scores", to_json(scores_file{{}, at.so_far})}};
  write_file(path, json_text(json, -1));
}

/// Reads a checkpoint of that scan. Throws file_error, which starts with the path: for what is no checkpoint, is cut short, or
/// is of another scan (the message then says in what they differ), or does not hold together.
[[nodiscard]] inline scan_checkpoint read_checkpoint(const std::filesystem::path& path, const scan_identity& identity) {
  const auto refuse = [&path](const std::string& problem) {
    throw file_error{path.string() + ": " + problem + "; name another file, or remove this one to start anew"};
  };
  std::ifstream stream{path};
  if (!stream) refuse("cannot be opened");
  try {
    const nlohmann::json json = nlohmann::json::parse(stream);
    if (json.at("format") != "klens-checkpoint" || json.at("version") != 1) refuse("is no klens-checkpoint of version 1");
    const auto of = json.at("of").get<scan_identity>();
    for (const auto& [name, value] : identity) {
      const auto found = of.find(name);
      if (found == of.end() || found->second != value)
        refuse("is of another scan: its " + name + " is " + (found == of.end() ? "not known" : found->second) + ", not " +
               value);
    }
    const scan_checkpoint at{scores_from_json(json.at("scores")).result, detail::count_at(json, "batches"),
                             json.at("spent").get<double>()};
    detail::expect_consistent(at);
    return at;
  } catch (const nlohmann::json::exception& caught) {
    refuse(std::string{"is damaged: "} + caught.what());
  } catch (const argument_error& caught) {
    refuse(std::string{"is damaged: its scores "} + caught.what());
  }
  throw file_error{path.string()};  // not reached: refuse throws
}

}  // namespace klens
