#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/float_bits.hpp>
#include <klens/error.hpp>
#include <klens/metric/metric.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/scores.hpp>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// JSON has no infinities: they are strings; what is not known is null.
[[nodiscard]] inline nlohmann::json number(double value) {
  if (detail::is_nan(value)) return nullptr;
  if (detail::is_infinite(value)) return value > 0 ? "inf" : "-inf";
  return value;
}
[[nodiscard]] inline double number(const nlohmann::json& value) {
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  return value.get<double>();
}

/// A whole number of 0 or more; nlohmann::json would turn -1 and 1.5 into some number. Throws argument_error.
[[nodiscard]] inline std::uint64_t count(const nlohmann::json& value, const char* name) {
  if (!value.is_number_unsigned())
    throw argument_error{std::string{"'"} + name + "' is " + name_text(value.dump(-1, ' ', true)) +
                         ", not a whole number of 0 or more"};
  return value.get<std::uint64_t>();
}
[[nodiscard]] inline std::uint64_t count_at(const nlohmann::json& object, const char* name) {
  return count(object.at(name), name);
}

// How the values of an enumeration are written.
template <class Value>
using spelling = std::pair<Value, std::string_view>;

inline constexpr std::array<spelling<outcome>, 5> outcomes{{{outcome::measured, "measured"},
                                                            {outcome::weights_unchanged, "weights_unchanged"},
                                                            {outcome::output_unchanged, "output_unchanged"},
                                                            {outcome::not_measured, "not_measured"},
                                                            {outcome::failed, "failed"}}};
inline constexpr std::array<spelling<standing>, 5> places{{{standing::open, "open"},
                                                           {standing::above, "above"},
                                                           {standing::below, "below"},
                                                           {standing::ordered, "ordered"},
                                                           {standing::stopped, "stopped"}}};

inline constexpr std::array<spelling<damage_scale>, 4> damage_scales{
    {{damage_scale::unknown, "unknown"},
     {damage_scale::mean, "mean"},
     {damage_scale::one_minus_mean, "one_minus_mean"},
     {damage_scale::noise_over_signal_db, "noise_over_signal_db"}}};

inline constexpr std::array<spelling<score_source>, 2> sources{
    {{score_source::exact, "exact"}, {score_source::local, "local"}}};

template <class Value, std::size_t Count>
[[nodiscard]] std::string_view text_of(Value value, const std::array<spelling<Value>, Count>& all) {
  return std::find_if(all.begin(), all.end(), [&](const auto& each) { return each.first == value; })->second;
}
template <class Value, std::size_t Count>
[[nodiscard]] Value value_of(const std::string& text, const std::array<spelling<Value>, Count>& all) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& each) { return each.second == text; });
  if (found == all.end()) throw argument_error{"'" + text + "' is not known here"};
  return found->first;
}

[[nodiscard]] inline nlohmann::json sums_to_json(const std::vector<contribution>& sums) {
  nlohmann::json values = nlohmann::json::array(), weights = nlohmann::json::array();
  for (const contribution& each : sums) {
    values.push_back(number(each.value));
    weights.push_back(number(each.weight));
  }
  return {{"values", values}, {"weights", weights}};
}
[[nodiscard]] inline std::vector<contribution> sums_from_json(const nlohmann::json& json) {
  const nlohmann::json &values = json.at("values"), &weights = json.at("weights");
  if (values.size() != weights.size()) throw argument_error{"by_sequence has more values than weights or fewer"};
  std::vector<contribution> sums;
  for (std::size_t s = 0; s < values.size(); ++s) {
    sums.emplace_back(number(values[s]), number(weights[s]));
    if (detail::is_nan(sums.back().value) || !(sums.back().weight >= 0 && detail::is_finite(sums.back().weight)))
      throw argument_error{"by_sequence has a value that is no number, or a weight below 0"};
  }
  return sums;
}

}  // namespace klens::detail
