#pragma once

#include <cstdint>
#include <klens/error.hpp>
#include <klens/plan/name_pattern.hpp>
#include <klens/plan/unit.hpp>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Memory with a budget of its own, and the layers that live in it: those whose names the regular expression is found in.
struct memory_pool {
  std::string name;
  std::string pattern;
  std::uint64_t budget_bytes = 0;
};

/// Allocates each pool by itself. As every unit lies in one pool, the best of each is the best of all; gaps add up.
/// Throws     argument_error: a unit in no pool, in two, or with layers in different ones; a pattern that is malformed or
///            matches nothing; what the allocator throws, behind the name of the pool.
template <allocator Allocator>
[[nodiscard]] allocation allocate(std::span<const plan_unit> units, std::span<const memory_pool> pools,
                                  const Allocator& decide) {
  detail::expect_units(units);
  std::vector<name_pattern> patterns;
  for (const memory_pool& pool : pools) patterns.emplace_back(pool.pattern);
  const auto pool_of = [&](const std::string& layer) {
    std::size_t found = pools.size();
    for (std::size_t p = 0; p < pools.size(); ++p) {
      if (!patterns[p].matches(layer)) continue;
      if (found != pools.size())
        throw argument_error{"plan: " + layer + " is in two pools, " + pools[found].name + " and " + pools[p].name};
      found = p;
    }
    if (found == pools.size()) throw argument_error{"plan: " + layer + " is in no pool; give it one"};
    return found;
  };
  std::vector<std::vector<plan_unit>> members(pools.size());
  std::vector<std::vector<std::size_t>> index(pools.size());
  for (std::size_t u = 0; u < units.size(); ++u) {
    const std::size_t pool = pool_of(units[u].layers.front());
    for (const std::string& layer : units[u].layers)
      if (pool_of(layer) != pool)
        throw argument_error{"plan: " + units[u].layers.front() + " and " + layer + " share a scheme but not a pool"};
    members[pool].push_back(units[u]);
    index[pool].push_back(u);
  }
  for (const name_pattern& each : patterns) each.expect_matched();

  std::vector<std::size_t> chosen(units.size());
  double gap = 0;
  for (std::size_t p = 0; p < pools.size(); ++p) {
    try {
      const allocation part = decide(members[p], pools[p].budget_bytes);
      for (std::size_t i = 0; i < index[p].size(); ++i) chosen[index[p][i]] = part.chosen[i];
      gap += part.gap;
    } catch (const argument_error& caught) {
      throw argument_error{"pool " + pools[p].name + ": " + caught.what()};
    }
  }
  allocation result = allocation_of(units, std::move(chosen));
  result.gap = gap;
  return result;
}

}  // namespace klens
