#pragma once
// Bands of position as JSON, out and in again.

#include <cstddef>
#include <klens/error.hpp>
#include <klens/io/detail/json_values.hpp>
#include <klens/rank/position_bands.hpp>
#include <nlohmann/json.hpp>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

[[nodiscard]] inline nlohmann::json to_json(const std::vector<position_band>& bands) {
  nlohmann::json json = nlohmann::json::array();
  for (const position_band& each : bands)
    json.push_back({{"first", each.first},
                    {"last", each.last},
                    {"mean", number(each.mean)},
                    {"low", number(each.low)},
                    {"high", number(each.high)},
                    {"by_sequence", sums_to_json(each.by_sequence)}});
  return json;
}
[[nodiscard]] inline std::vector<position_band> bands_from_json(const nlohmann::json& json) {
  std::vector<position_band> bands;
  for (const nlohmann::json& each : json)
    bands.push_back({count_at(each, "first"), count_at(each, "last"), number(each.at("mean")), number(each.at("low")),
                     number(each.at("high")), sums_from_json(each.at("by_sequence"))});
  for (const position_band& each : bands)
    if (each.by_sequence.size() != bands.front().by_sequence.size())
      throw argument_error{"by_position has bands of different sequences"};
  return bands;
}
[[nodiscard]] inline nlohmann::json to_json(const damage_growth& growth) {
  return {{"factor", number(growth.factor)}, {"low", number(growth.low)}, {"high", number(growth.high)}};
}

}  // namespace klens::detail
