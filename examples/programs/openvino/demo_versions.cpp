#include "demo_versions.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <klens/plan/constraints.hpp>
#include <klens/plan/exact.hpp>
#include <klens/plan/size.hpp>
#include <klens/plan/units_of.hpp>
#include <klens/quant/scheme.hpp>
#include <numeric>
#include <optional>
#include <utility>

#include "stored_form.hpp"
#include "terminal.hpp"

namespace openvino_adapter {
namespace {

constexpr std::size_t cuts = 10;

std::optional<klens::scheme_offer> offer_of(const klens::plan_layer& layer, const std::string& scheme) {
  if (!storage_problem({layer.name, scheme, layer.rows, layer.columns}).empty()) return std::nullopt;
  return klens::scheme_offer{scheme, klens::scheme{scheme}.bytes(layer.rows, layer.columns)};
}

std::size_t choice_of(const klens::plan_unit& unit, bool smallest) {
  const auto by_size = std::ranges::minmax_element(unit.choices, {}, &klens::plan_choice::bytes);
  return static_cast<std::size_t>((smallest ? by_size.min : by_size.max) - unit.choices.begin());
}

klens::allocation cut_at(const std::vector<klens::plan_unit>& units, double share) {
  std::vector<std::size_t> order(units.size()), chosen(units.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t u) { return units[u].choices[choice_of(units[u], true)].damage; });
  double all = 0, small = 0;
  for (const klens::plan_unit& unit : units) all += static_cast<double>(unit.weights);
  for (const std::size_t u : order) {
    const auto weights = static_cast<double>(units[u].weights);
    const bool fits = small + weights / 2 <= share * all;  // whichever comes nearer
    chosen[u] = choice_of(units[u], fits);
    if (fits) small += weights;
  }
  return klens::allocation_of(units, std::move(chosen));
}

}  // namespace

std::vector<demo_version> demo_versions(const klens::scores& scores, const std::vector<std::string>& budgets,
                                        const std::vector<std::string>& assume_harmless, const std::string& untouched) {
  klens::scored_units scored = klens::units_of(scores, {.assume_harmless = assume_harmless, .offer = offer_of});
  const std::vector<klens::plan_unit> units = klens::constrain(std::move(scored.units), {});
  std::vector<demo_version> versions(1);
  versions[0] = {untouched, untouched, {}};
  const std::uint64_t weights = klens::weights_of(units);
  for (const klens::plan_unit& unit : units)
    for (const std::string& each : unit.layers) versions[0].plan.layers.push_back({each, untouched});
  versions[0].plan.bytes = (untouched == "fp16" ? 2 : 4) * weights;
  for (std::size_t cut = 0; cut < cuts; ++cut) {
    const klens::allocation found = cut_at(units, static_cast<double>(cut) / (cuts - 1));
    versions.push_back({programs::text("p%02zu", cut + 1), "cuts", klens::make_plan("cut", units, found, found.bytes)});
  }
  for (const std::string& each : budgets) {
    const std::uint64_t bytes = klens::parse_budget(each, weights, 2 * weights);
    versions.push_back({"exact-" + each, "exact plans", klens::make_plan("exact", units, klens::exact{}(units, bytes), bytes)});
  }
  for (std::size_t v = 1; v < versions.size(); ++v) versions[v].plan.unknown = scored.unknown;
  return versions;
}

}  // namespace openvino_adapter
