#pragma once

#include <algorithm>
#include <cstdint>
#include <klens/plan/unit.hpp>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// What a model with a plan (or a uniform scheme) applied was measured to be, against the untouched model.
struct plan_measurement {
  double kl = 0;  ///< nats/token
  double perplexity = 0;
  double top1 = 0;  ///< share of positions
  std::uint64_t positions = 0;
  double kl_error = std::numeric_limits<double>::quiet_NaN();          ///< standard errors; NaN where one sequence was measured
  double perplexity_error = std::numeric_limits<double>::quiet_NaN();  ///< of its difference to the untouched model's
  double top1_error = std::numeric_limits<double>::quiet_NaN();
};

/// What stands beside a plan for comparison.
struct plan_baseline {
  std::uint64_t bytes = 0;
  double kl = 0;
  double perplexity = 0;
};

struct layer_scheme {
  std::string layer;
  std::string scheme;
};

/// A candidate whose damage nobody knows: its scores say nothing.
struct unknown_damage {
  std::string layer;
  std::string scheme;
  std::string why;                ///< "its change reached no logit"
  bool assumed_harmless = false;  ///< counted as 0 because the caller said so; otherwise it is on offer nowhere
};

/// The sequences whose keys, values and states a plan has room for.
struct run_time_memory {
  std::uint64_t context = 0;     ///< positions of each
  std::uint64_t concurrent = 1;  ///< sequences at the same time
};

/// A scheme for each layer, with its size and its damage.
struct plan {
  std::string allocator;
  std::uint64_t budget_bytes = 0;
  std::uint64_t bytes = 0;
  double bits_per_weight = 0;
  std::optional<run_time_memory> at_run_time{};  ///< what its bytes hold beside weights; none: weights alone
  std::vector<layer_scheme> layers;
  std::vector<unknown_damage> unknown{};    ///< of its layers: what they could not be given, or were given on somebody's word
  std::map<std::string, double> predicted;  ///< by metric: the sum of single-layer damages; "kl" in nats/token
  std::optional<plan_measurement> measured;
  std::map<std::string, plan_baseline> baselines;  ///< by name: "fp16", "int8-channel", ...

  /// Whether the damage of a scheme that it gives to a layer is only assumed.
  [[nodiscard]] bool rests_on_assumptions() const noexcept {
    for (const unknown_damage& each : unknown) {
      const std::string* const own = scheme_of(each.layer);
      if (each.assumed_harmless && own && *own == each.scheme) return true;
    }
    return false;
  }

  /// The scheme of a layer, or nullptr.
  [[nodiscard]] const std::string* scheme_of(std::string_view layer) const noexcept {
    for (const layer_scheme& each : layers)
      if (each.layer == layer) return &each.scheme;
    return nullptr;
  }
};

/// Weights that count towards size although nothing is decided about them.
struct undecided_weights {
  std::uint64_t weights = 0;
  std::uint64_t bytes = 0;
};

/// Writes an allocation as a plan, layer by layer in the order of the units; `also` is added to the size; `metric` names what the
/// damages are.
[[nodiscard]] inline plan make_plan(std::string_view allocator_name, std::span<const plan_unit> units,
                                    const allocation& decided, std::uint64_t budget_bytes, const undecided_weights& also = {},
                                    std::string_view metric = "kl") {
  const allocation checked = allocation_of(units, decided.chosen);
  plan result;
  result.allocator = allocator_name;
  result.budget_bytes = budget_bytes;
  result.bytes = checked.bytes + also.bytes;
  result.predicted.emplace(metric, checked.damage);
  std::uint64_t weights = also.weights;
  for (std::size_t u = 0; u < units.size(); ++u) {
    weights += units[u].weights;
    const plan_choice& choice = units[u].choices[checked.chosen[u]];
    for (std::size_t i = 0; i < units[u].layers.size(); ++i) result.layers.push_back({units[u].layers[i], choice.schemes[i]});
  }
  if (weights > 0) result.bits_per_weight = 8 * static_cast<double>(result.bytes) / static_cast<double>(weights);
  return result;
}

}  // namespace klens
