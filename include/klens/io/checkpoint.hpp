#pragma once
// A scan's checkpoint as a file. Needs nlohmann-json; not part of klens.hpp.

#include <filesystem>
#include <fstream>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/io/scores_json.hpp>
#include <klens/rank/rank_options.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace klens {

/// What a scan is of: names and values (fingerprints of model and tokens, schemes, options) that must agree before it may go
/// on.
using scan_identity = std::map<std::string, std::string>;

/// Writes a checkpoint, whole or not at all. Throws file_error; an older checkpoint then stays as it was.
inline void write_checkpoint(const std::filesystem::path& path, const scan_identity& identity, const scan_checkpoint& at) {
  const nlohmann::json json{
      {"format", "klens-checkpoint"}, {"version", 1},      {"of", identity},
      {"batches", at.batches},        {"spent", at.spent}, {"scores", to_json(scores_file{{}, at.so_far})}};
  write_file(path, json.dump() + "\n");
}

/// Reads a checkpoint of that scan. Throws file_error, which starts with the path: for what is no checkpoint, is cut short, or
/// is of another scan; the message then says in what they differ.
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
    return {scores_from_json(json.at("scores")).result, json.at("batches").get<std::size_t>(), json.at("spent").get<double>()};
  } catch (const nlohmann::json::exception& caught) {
    refuse(std::string{"is damaged: "} + caught.what());
  } catch (const argument_error& caught) {
    refuse(std::string{"is damaged: its scores "} + caught.what());
  }
  throw file_error{path.string()};  // not reached: refuse throws
}

}  // namespace klens
