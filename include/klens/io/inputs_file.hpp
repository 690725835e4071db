#pragma once
// Needs nlohmann-json; not part of klens.hpp.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <klens/error.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/layer.hpp>
#include <klens/quant/layer_inputs.hpp>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Writes layer::inputs of those layers that have them: a safetensors file with "<layer>:mean_squares" F32 [in], where known
/// "<layer>:second_moments" F32 [in, in], and "<layer>:positions" I64 [1].
///   identity   what a reader can compare: {"model", fingerprint}
/// Throws     argument_error, file_error as write_safetensors.
inline void write_inputs(const std::filesystem::path& path, std::span<const layer> layers,
                         const std::map<std::string, std::string>& identity = {}) {
  std::vector<stored_tensor> tensors;
  std::vector<std::int64_t> positions;
  positions.reserve(layers.size());
  for (const layer& each : layers) {
    if (!each.inputs) continue;
    positions.push_back(static_cast<std::int64_t>(each.inputs->positions));
    tensors.push_back(as_tensor(each.name + ":positions", {1}, std::span<const std::int64_t>(&positions.back(), 1)));
    const std::vector<float>& squares = each.inputs->mean_squares;
    tensors.push_back(as_tensor(each.name + ":mean_squares", {squares.size()}, std::span<const float>(squares)));
    const matrix<float>& moments = each.inputs->second_moments;
    if (moments.size() == 0) continue;
    tensors.push_back(as_tensor(each.name + ":second_moments", {squares.size(), squares.size()},
                                std::span<const float>(moments.data(), static_cast<std::size_t>(moments.size()))));
  }
  std::map<std::string, std::string> metadata = identity;
  metadata["format"] = "klens-inputs";
  write_safetensors(path, tensors, metadata);
}

/// Reads what write_inputs wrote into layer::inputs.
///   what       what each layer must have
/// Throws     file_error, starting with the path: for another kind of file; where it has another identity, lacks a layer or what
///            is asked for, or has another number of columns (then it is of another model, or its scan asked for less).
inline void read_inputs(const std::filesystem::path& path, std::span<layer> layers, input_need what,
                        const std::map<std::string, std::string>& identity = {}) {
  const safetensors file{path};
  const auto fail = [&](const std::string& problem) { throw file_error{path.string() + ": " + problem}; };
  const auto said = [&](const std::string& key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string{} : found->second;
  };
  if (said("format") != "klens-inputs") fail("holds no statistics of inputs; name another file, or one that is not there yet");
  for (const auto& [key, value] : identity)
    if (said(key) != value) fail("is of another " + key + "; name a file that is not there yet to gather new statistics");
  for (layer& each : layers) {
    const std::string squares = each.name + ":mean_squares", moments = each.name + ":second_moments";
    const std::string positions = each.name + ":positions";
    if (!file.contains(squares) || !file.contains(positions))
      fail("has no statistics of " + each.name + "; name a file that is not there yet to gather new ones");
    layer_inputs known;
    const std::vector<std::int64_t> counted = file.values<std::int64_t>(positions);
    if (counted.size() != 1 || counted[0] < 0) fail("tensor " + positions + " is no number of positions");
    known.positions = static_cast<std::size_t>(counted[0]);
    known.mean_squares = file.values<float>(squares);
    if (known.positions > 0) {
      if (known.mean_squares.size() != each.columns())
        fail(each.name + " has " + std::to_string(known.mean_squares.size()) + " inputs there, " +
             std::to_string(each.columns()) + " in this model");
      if (what == input_need::second_moments) {
        if (!file.contains(moments))
          fail("has no second moments of " + each.name +
               ", which a gptq scheme needs; name a file that is not there yet to gather them");
        const std::vector<float> values = file.values<float>(moments);
        if (values.size() != each.columns() * each.columns())
          fail("tensor " + moments + " is not " + std::to_string(each.columns()) + " by as many");
        const auto side = static_cast<Eigen::Index>(each.columns());
        known.second_moments = Eigen::Map<const matrix<float>>(values.data(), side, side);
      }
      try {
        detail::expect_inputs(each.name, known, each.columns());
      } catch (const error& caught) {
        fail(caught.what());
      }
    }
    each.inputs = std::make_shared<const layer_inputs>(std::move(known));
  }
}

}  // namespace klens
