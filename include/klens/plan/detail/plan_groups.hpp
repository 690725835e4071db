#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/plan/unit.hpp>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The choice of a unit that gives this scheme to its first layer, or nullptr.
[[nodiscard]] inline const plan_choice* find_choice(const plan_unit& unit, const std::string& scheme) {
  for (const plan_choice& each : unit.choices)
    if (each.schemes.front() == scheme) return &each;
  return nullptr;
}

[[nodiscard]] inline std::string scheme_list(const plan_unit& unit) {
  std::string list;
  for (const plan_choice& each : unit.choices) list += (list.empty() ? "" : ", ") + each.schemes.front();
  return list;
}

inline void append(plan_choice& to, const plan_choice& from) {
  to.schemes.insert(to.schemes.end(), from.schemes.begin(), from.schemes.end());
  to.bytes += from.bytes;
  to.damage += from.damage;
}

/// Several units as one, without choices.
[[nodiscard]] inline plan_unit joined(std::span<const plan_unit> members) {
  plan_unit unit;
  for (const plan_unit& each : members) {
    unit.layers.insert(unit.layers.end(), each.layers.begin(), each.layers.end());
    unit.weights += each.weights;
  }
  return unit;
}

/// Groups units by a key, in the order of each group's first unit; units without a key stay alone.
template <class KeyOf>
[[nodiscard]] std::vector<std::vector<plan_unit>> grouped(std::vector<plan_unit> units, const KeyOf& key_of) {
  std::vector<std::vector<plan_unit>> groups;
  std::map<std::string, std::size_t> known;
  for (plan_unit& unit : units) {
    const std::optional<std::string> key = key_of(unit);
    const std::size_t at = key ? known.try_emplace(*key, groups.size()).first->second : groups.size();
    if (at == groups.size()) groups.emplace_back();
    groups[at].push_back(std::move(unit));
  }
  return groups;
}

/// One unit that has the schemes that all members have; damages and bytes add up.
[[nodiscard]] inline plan_unit share_scheme(std::span<const plan_unit> members) {
  plan_unit unit = joined(members);
  for (const plan_choice& first : members.front().choices) {
    plan_choice all = first;
    bool everywhere = true;
    for (const plan_unit& other : members.subspan(1)) {
      const plan_choice* same = find_choice(other, first.schemes.front());
      everywhere = everywhere && same;
      if (everywhere) append(all, *same);
    }
    if (everywhere) unit.choices.push_back(std::move(all));
  }
  if (unit.choices.empty()) {
    std::string text;
    for (const plan_unit& each : members)
      text += (text.empty() ? "" : "; ") + each.layers.front() + " has " + scheme_list(each);
    throw argument_error{
        "plan: these layers must share a scheme but have none in common (contradictory pins or missing candidates): " + text};
  }
  return unit;
}

}  // namespace klens::detail
