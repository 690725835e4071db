#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/plan/plan.hpp>
#include <klens/plan/unit.hpp>
#include <klens/quant/round_trip.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/weight_guard.hpp>
#include <map>
#include <span>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// A version of a model: the scheme of each layer that is not as it was, by the layer's name.
using model_version = std::map<std::string, scheme>;

/// What a plan makes of a model. Throws argument_error for a scheme that klens does not know.
[[nodiscard]] inline model_version version_of(const plan& of) {
  model_version version;
  for (const layer_scheme& each : of.layers) version.emplace(each.layer, scheme{each.scheme});
  return version;
}

/// The same of one choice for each unit. Throws as allocation_of where there are more or fewer, or a unit has no such choice.
[[nodiscard]] inline model_version version_of(std::span<const plan_unit> units, std::span<const std::size_t> chosen) {
  (void)allocation_of(units, {chosen.begin(), chosen.end()});
  model_version version;
  for (std::size_t u = 0; u < units.size(); ++u)
    for (std::size_t i = 0; i < units[u].layers.size(); ++i)
      version.emplace(units[u].layers[i], scheme{units[u].choices[chosen[u]].schemes[i]});
  return version;
}

/// A version of a model for as long as this lives: the layers hold what their schemes would keep of their weights. When it
/// goes, or does not come about, every weight is back, bit for bit.
///   klens::applied_version applied{layers, klens::version_of(plan)};
///   const klens::matrix<float> logits = forward();
/// Memory     a copy of the weights of every layer that has a scheme.
/// Throws     argument_error for a scheme of a layer that is not among `layers`; numeric_error, naming the layer, for weights
///            that its scheme cannot store; what `store` of a layer throws.
class applied_version {
 public:
  applied_version(std::span<layer> layers, const model_version& version, const round_trip_options& options = {}) {
    for (const auto& each : version) {
      const auto& name = each.first;
      const auto& storage = each.second;
      const auto found = std::find_if(layers.begin(), layers.end(), [&](const layer& known) { return known.name == name; });
      if (found == layers.end())
        throw argument_error{"the plan has a layer " + detail::name_text(name) + ", the model has not"};
      weight_guard& guard = guards_.emplace_back(*found);
      try {
        (void)guard.apply(storage, options);
      } catch (const numeric_error& caught) {
        throw numeric_error{name + ": " + caught.what()};
      }
      changed_ = changed_ || guard.changed();
    }
  }

  /// Whether any weight differs from what it was.
  [[nodiscard]] bool changed() const noexcept { return changed_; }

  /// Puts the weights back now. Throws restore_error, naming the layer, where its `store` throws.
  void restore() {
    for (weight_guard& each : guards_) each.restore();
  }

 private:
  std::deque<weight_guard> guards_;
  bool changed_ = false;
};

}  // namespace klens
