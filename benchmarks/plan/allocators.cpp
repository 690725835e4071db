// How long each allocator takes on 2000 units with 8 choices each, at budgets from tight to loose. Every row says how much more
// damage than the exact plan it has (over) and what the exact search left unproven (gap), both relative.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <klens/plan/exact.hpp>
#include <klens/plan/greedy.hpp>
#include <random>
#include <string>
#include <vector>
#include "share.hpp"
#include "threshold.hpp"

#include "plan/units.hpp"

namespace {

using klens::plan_unit;

std::uint64_t budget_between(const std::vector<plan_unit>& units, double part) {
  const std::uint64_t low = klens::detail::smallest_choices(units).bytes, high = klens::detail::mildest_choices(units).bytes;
  return low + static_cast<std::uint64_t>(part * static_cast<double>(high - low));
}

const std::vector<plan_unit>& model_like() {
  std::mt19937_64 random{1};
  static const std::vector<plan_unit> units = tests::model_like_units(2000, random);
  return units;
}

/// Damage a straight line over random sizes: as hard as a subset sum, the case in which proofs are out of reach.
const std::vector<plan_unit>& straight_line() {
  static const std::vector<plan_unit> units = [] {
    std::mt19937_64 random{2};
    std::vector<plan_unit> made;
    for (int u = 0; u < 2000; ++u) {
      made.push_back({{"layer" + std::to_string(u)}, 1, {}});
      for (int c = 0; c < 8; ++c) {
        const std::uint64_t bytes = random() % 1'000'000'000;
        made.back().choices.push_back({{"s"}, bytes, 1e9 - static_cast<double>(bytes)});
      }
    }
    return made;
  }();
  return units;
}

template <klens::allocator Allocator>
void allocate(benchmark::State& state, const Allocator& decide, const std::vector<plan_unit>& units) {
  const std::uint64_t budget = budget_between(units, static_cast<double>(state.range(0)) / 100);
  klens::allocation found;
  for (auto _ : state) found = decide(units, budget);
  const klens::allocation best = klens::exact{}(units, budget);
  state.counters["over"] = found.damage / best.damage - 1;
  state.counters["gap"] = best.gap / best.damage;
}

void smallest(benchmark::State& state, const std::vector<plan_unit>& units) {
  const double limit = klens::exact{}(units, budget_between(units, static_cast<double>(state.range(0)) / 100)).damage;
  for (auto _ : state) benchmark::DoNotOptimize(klens::exact{}.smallest(units, limit));
}

constexpr auto percents = [](auto* rows) {
  rows->ArgName("percent")->Arg(3)->Arg(20)->Arg(50)->Arg(90)->Unit(benchmark::kMillisecond);
};

BENCHMARK_CAPTURE(allocate, exact, klens::exact{}, model_like())->Apply(percents);
BENCHMARK_CAPTURE(smallest, exact_smallest, model_like())->Apply(percents);
BENCHMARK_CAPTURE(allocate, greedy, klens::greedy{}, model_like())->Apply(percents);
BENCHMARK_CAPTURE(allocate, threshold, klens::threshold{}, model_like())->Apply(percents);
BENCHMARK_CAPTURE(allocate, share, klens::share{}, model_like())->Apply(percents);
BENCHMARK_CAPTURE(allocate, exact_straight_line, klens::exact{}, straight_line())->Arg(50)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
