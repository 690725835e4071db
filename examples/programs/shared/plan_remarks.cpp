#include "plan_remarks.hpp"

#include <algorithm>
#include <cstddef>
#include <set>

#include "terminal.hpp"

namespace programs {
namespace {

constexpr std::size_t most_layers = 20;  // plan.json lists them all

// The candidates of one layer that have the same reason: "int2-g32, int8-channel: its change reached no logit".
struct unknown_layer {
  std::string layer, schemes, why;
};

std::vector<unknown_layer> by_layer(const std::vector<klens::unknown_damage>& unknown, bool assumed) {
  std::vector<unknown_layer> all;
  for (const klens::unknown_damage& each : unknown) {
    if (each.assumed_harmless != assumed) continue;
    if (!all.empty() && all.back().layer == each.layer && all.back().why == each.why)
      all.back().schemes += ", " + each.scheme;
    else
      all.push_back({each.layer, each.scheme, each.why});
  }
  return all;
}

std::string lines_of(const std::vector<unknown_layer>& layers, const klens::plan* plan) {
  std::string lines;
  for (std::size_t i = 0; i < std::min(layers.size(), most_layers); ++i) {
    const std::string* const given = plan ? plan->scheme_of(layers[i].layer) : nullptr;
    lines += "  " + printable(layers[i].layer) + (given ? " gets " + *given : "") + ": as " + layers[i].schemes + " " +
             layers[i].why + "\n";
  }
  if (layers.size() > most_layers) lines += text("  and %zu more\n", layers.size() - most_layers);
  return lines;
}

}  // namespace

std::vector<klens::unknown_damage> unknown_among(std::span<const klens::plan_unit> units,
                                                 const std::vector<klens::unknown_damage>& all) {
  std::vector<klens::unknown_damage> found;
  for (const klens::unknown_damage& each : all)
    if (std::ranges::any_of(units, [&](const klens::plan_unit& unit) {
          return std::ranges::find(unit.layers, each.layer) != unit.layers.end();
        }))
      found.push_back(each);
  return found;
}

std::string remarks_on(const std::vector<klens::unknown_damage>& unknown, const klens::plan* plan) {
  std::string remarks;
  if (const auto layers = by_layer(unknown, false); !layers.empty())
    remarks +=
        "not known: what these layers lose. They keep the finest scheme on offer, and so do those that share a scheme with "
        "them;\n--assume-harmless PATTERN takes their damage for 0\n" +
        lines_of(layers, plan);
  if (const auto layers = by_layer(unknown, true); !layers.empty())
    remarks += "assumed harmless, not measured:\n" + lines_of(layers, plan);
  return remarks;
}

std::string with_unknown(std::string problem, const std::vector<klens::unknown_damage>& unknown) {
  std::set<std::string> layers;
  for (const klens::unknown_damage& each : unknown)
    if (!each.assumed_harmless) layers.insert(each.layer);
  if (layers.empty()) return problem;
  return problem +
         text(
             "; the damage of %zu layers is unknown (%s, ...), and they take the finest scheme on offer: score them on "
             "other tokens, or --assume-harmless PATTERN",
             layers.size(), printable(*layers.begin()).c_str());
}

std::string proof_text(const klens::plan& of, double gap) {
  if (gap != 0) return text("not proven: another plan could be better by %.3g", gap);
  if (of.rests_on_assumptions()) return "no plan within these limits is better by prediction, if what is assumed harmless is";
  const bool all_known = std::ranges::all_of(of.unknown, &klens::unknown_damage::assumed_harmless);
  return all_known ? "proven: no plan within these limits is better by prediction"
                   : "proven for the layers whose damage is known: no plan within these limits is better by prediction";
}

}  // namespace programs
