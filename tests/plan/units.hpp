#pragma once
// Short ways to write units down.

#include <cstdint>
#include <initializer_list>
#include <klens/plan/unit.hpp>
#include <limits>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace tests {

struct short_choice {
  const char* scheme;
  std::uint64_t bytes;
  double damage;
};

/// A unit of one layer with as many weights as its largest choice has bytes.
inline klens::plan_unit unit(std::string layer, std::initializer_list<short_choice> choices) {
  klens::plan_unit made;
  made.layers = {std::move(layer)};
  for (const auto& [scheme, bytes, damage] : choices) {
    made.choices.push_back({{scheme}, bytes, damage});
    made.weights = std::max(made.weights, bytes);
  }
  return made;
}

/// Calls look(chosen) for every way to choose.
template <class Look>
void for_each_allocation(std::span<const klens::plan_unit> units, const Look& look) {
  std::vector<std::size_t> chosen(units.size(), 0);
  for (;;) {
    look(chosen);
    std::size_t u = 0;
    while (u < units.size() && ++chosen[u] == units[u].choices.size()) chosen[u++] = 0;
    if (u == units.size()) return;
  }
}

/// The first of the least (key, second key) among all allocations for which `allowed`, tried one by one.
template <class Allowed, class Key>
std::optional<klens::allocation> brute_force(std::span<const klens::plan_unit> units, const Allowed& allowed, const Key& key) {
  std::optional<klens::allocation> best;
  for_each_allocation(units, [&](const std::vector<std::size_t>& chosen) {
    const klens::allocation each = klens::allocation_of(units, chosen);
    if (each.damage < std::numeric_limits<double>::infinity() && allowed(each) && (!best || key(each) < key(*best)))
      best = each;
  });
  return best;
}

/// What random units look like; each family is hard in its own way.
struct random_family {
  const char* name;
  int units, choices;
  std::uint64_t bytes;   // below this
  int damages;           // multiples of 1/64 below this
  int lowest = 0;        // damages start here: negative ones
  double forbidden = 0;  // share of choices with infinite damage
  bool line = false;     // damage falls in a straight line with size
};

/// Sums of these damages are exact, so that equal means equal.
inline std::vector<klens::plan_unit> random_units(const random_family& family, std::mt19937_64& random) {
  const auto below = [&](auto limit) { return random() % static_cast<std::uint64_t>(limit); };
  std::vector<klens::plan_unit> units;
  for (std::uint64_t u = 0, count = 1 + below(family.units); u < count; ++u) {
    klens::plan_unit made;
    made.layers = {"layer" + std::to_string(u)};
    made.weights = 1 + below(1000);
    for (std::uint64_t c = 0, choices = 1 + below(family.choices); c < choices; ++c) {
      const std::uint64_t bytes = below(family.bytes);
      double damage = (static_cast<double>(below(family.damages)) + family.lowest) / 64;
      if (family.line) damage = static_cast<double>(family.bytes - bytes) / 64;
      if (c > 0 && static_cast<double>(below(1000)) < 1000 * family.forbidden) damage = std::numeric_limits<double>::infinity();
      made.choices.push_back({{"s" + std::to_string(c)}, bytes, damage});
    }
    units.push_back(std::move(made));
  }
  return units;
}

/// Like a transformer: few shapes, 2 to 9 bits with scales and 16 bits, damage falling four times with each bit, and scattered.
inline std::vector<klens::plan_unit> model_like_units(std::size_t count, std::mt19937_64& random) {
  constexpr std::uint64_t shapes[4][2] = {{4096, 4096}, {1024, 4096}, {11008, 4096}, {4096, 11008}};
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  std::vector<klens::plan_unit> units;
  for (std::size_t u = 0; u < count; ++u) {
    const auto& [rows, columns] = shapes[random() % 4];
    klens::plan_unit made;
    made.layers = {"layer" + std::to_string(u)};
    made.weights = rows * columns;
    const double sensitivity = std::exp2(20 * uniform() - 15);
    for (const int bits : {2, 3, 4, 5, 6, 7, 8, 16})
      made.choices.push_back(
          {{"int" + std::to_string(bits)},
           bits == 16 ? 2 * rows * columns : rows * columns * static_cast<std::uint64_t>(bits) / 8 + rows * columns / 16,
           bits == 16 ? 0 : sensitivity * std::exp2(-2 * bits + uniform() - 0.5)});
    units.push_back(std::move(made));
  }
  return units;
}

}  // namespace tests
