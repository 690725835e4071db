#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/rank/scores.hpp>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Why nobody knows what a candidate loses; empty where it is known.
[[nodiscard]] inline std::string why_unknown(const layer_score& candidate) {
  if (candidate.result == outcome::measured || candidate.result == outcome::weights_unchanged) return "";
  if (candidate.result == outcome::output_unchanged) return "its change reached no logit";
  if (candidate.result == outcome::not_measured) return "it was not measured";
  return "it was left out of the scan";
}

/// Whether the layer can be stored so, though nobody knows at what damage.
[[nodiscard]] inline bool is_storable(const layer_score& candidate) {
  return why_unknown(candidate).empty() || candidate.result == outcome::output_unchanged ||
         candidate.result == outcome::not_measured;
}

/// Candidates by layer and scheme. Throws argument_error for one that is there twice.
class scored_candidates {
 public:
  explicit scored_candidates(const scores& all) {
    for (const layer_score& each : all.candidates)
      if (!found_.try_emplace({each.layer, each.scheme}, &each).second)
        throw argument_error{"the scores have " + each.layer + " as " + each.scheme + " twice; keep one of them"};
  }

  /// Throws argument_error for a candidate of a layer that is not among these.
  void expect_among(std::span<const std::string> layers) const {
    for (const auto& [key, candidate] : found_)
      if (std::find(layers.begin(), layers.end(), key.first) == layers.end())
        throw argument_error{"the scores have a layer " + name_text(key.first) +
                             " that is none to be planned; rank the layers of this model again"};
  }

  /// Throws argument_error where there is none.
  [[nodiscard]] const layer_score& at(const std::string& layer, const std::string& scheme) const {
    const auto at = found_.find({layer, scheme});
    if (at == found_.end())
      throw argument_error{"the scores have no " + layer + " as " + scheme + "; score it, or leave the layer out of the plan"};
    return *at->second;
  }

 private:
  std::map<std::pair<std::string_view, std::string_view>, const layer_score*> found_;
};

/// Whether every weight of the layer is a number of that type.
template <class Stored>
[[nodiscard]] bool holds_weights(const matrix<float>& weights) {
  return std::all_of(weights.data(), weights.data() + weights.size(), [](float w) {
    return std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<Stored>(w))) == std::bit_cast<std::uint32_t>(w);
  });
}

}  // namespace klens::detail
