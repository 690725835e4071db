#pragma once
// Versions of a model that stand beside each other: plans, and uniform schemes to compare them with.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/layer.hpp>
#include <klens/plan/apply.hpp>
#include <klens/plan/unit.hpp>
#include <klens/quant/scheme.hpp>
#include <span>
#include <string>
#include <vector>

#include "storable.hpp"
#include "terminal.hpp"

namespace programs {

struct listed_version {
  std::string name;
  std::uint64_t bytes = 0;  ///< of the layers that it has a scheme for
  klens::model_version version{};
  std::vector<std::string> left_untouched{};  ///< layers that its scheme cannot store
};

/// Every layer of some units under one scheme; those that it cannot store under `untouched`, which holds their weights.
[[nodiscard]] inline listed_version uniform(const std::string& name, std::span<const klens::plan_unit> units,
                                            std::span<const klens::layer> layers, const std::string& untouched) {
  listed_version made{name};
  for (const klens::layer& each : layers) {
    const auto has = [&](const klens::plan_unit& unit) {
      return std::ranges::find(unit.layers, each.name) != unit.layers.end();
    };
    if (std::ranges::none_of(units, has)) continue;
    const klens::scheme wanted{name};
    const bool at_run_time = each.site != klens::site_kind::weights;
    const bool stores = can_store(wanted, each) && !(at_run_time && name == untouched);
    if (!stores && name != untouched) made.left_untouched.push_back(each.name);
    const klens::scheme scheme = stores ? wanted : klens::scheme{at_run_time ? "f32" : untouched};
    made.version.emplace(each.name, scheme);
    made.bytes += scheme.bytes(each.rows(), each.columns());
  }
  return made;
}

/// A line where a uniform version has layers that its scheme cannot store; else nothing.
[[nodiscard]] inline std::string remark_on(const listed_version& uniform, const std::string& untouched) {
  if (uniform.left_untouched.empty()) return "";
  const std::size_t count = uniform.left_untouched.size();
  return text("%s cannot store %zu of the layers (%s%s); there they are in %s\n", uniform.name.c_str(), count,
              printable(uniform.left_untouched.front()).c_str(), count > 1 ? ", ..." : "", untouched.c_str());
}

/// What a plan is compared with: the untouched weights, every scored scheme for all layers, and 8 and 4 bits of the first one's
/// family where no scored scheme has them.
[[nodiscard]] inline std::vector<std::string> baseline_names(const std::vector<std::string>& scored,
                                                             const std::string& untouched) {
  std::vector<std::string> names{untouched};
  for (const std::string& each : scored)
    if (each != untouched) names.push_back(each);
  const auto begins = [](const std::string& with) {
    return [with](const std::string& name) { return name.starts_with(with); };
  };
  const auto integer = std::ranges::find_if(scored, begins("int"));
  const bool blocks = std::ranges::any_of(scored, begins("q"));
  for (const std::string bits : {"8", "4"}) {
    if (std::ranges::any_of(scored, begins("int" + bits)) || std::ranges::any_of(scored, begins("q" + bits))) continue;
    if (integer != scored.end())
      names.push_back("int" + bits + integer->substr(4));
    else if (blocks)
      names.push_back("q" + bits + "_0");
  }
  return names;
}

}  // namespace programs
