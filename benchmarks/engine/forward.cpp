// Forwards of 4 sequences of 256 tokens, in turn with their matrix products alone: the same shapes, sequence by sequence, through
// the same GEMM (the products of an attention's scores are left out). One round measures both with one thread and with two, so
// that whatever else the machine does meets all four. Counters, over the rounds:
//   forward_1, products_1, forward_2, products_2   least time, ms
//   ratio_1, ratio_2                               median of forward / products in time of the processor
//   speedup, products_speedup                      least time of one thread / least time of two
// And what a candidate costs that goes on at its own stage, as a mean over all weights within blocks, in forwards:
//   by_flops, by_time                              counted; median over the rounds, in time of the processor, one thread
#include <benchmark/benchmark.h>

#include <klens/parallel_for.hpp>
#include <vector>

#include "engine/model.hpp"
#include "engine/products.hpp"
#include "random_model.hpp"
#include "rounds.hpp"

namespace {

struct times {
  std::vector<double> wall, processor;
  void add(const auto& work) {
    double ms = 0;
    processor.push_back(benchmarks::processor_ms([&] { ms = benchmarks::wall_ms(work); }));
    wall.push_back(ms);
  }
  [[nodiscard]] double least() const { return std::ranges::min(wall); }
};

constexpr std::size_t sequences = 4, length = 256;

std::vector<std::int32_t> tokens_for(const programs::model& model) {
  std::vector<std::int32_t> tokens(sequences * length);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 37 % model.vocabulary());
  return tokens;
}

void measure(benchmark::State& state, const std::filesystem::path& folder) {
  programs::model model = programs::model::load(folder);
  const std::vector<std::int32_t> tokens = tokens_for(model);
  const benchmarks::products alone(model, length);
  std::vector<klens::matrix<float>> y(sequences, alone.result());

  const auto forward = [&](std::size_t threads) {
    programs::state at = model.begin(tokens, sequences, length);
    for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(at, stage, threads);
    benchmark::DoNotOptimize(model.logits(at, threads));
  };
  const auto products = [&](std::size_t threads) {
    klens::parallel_for(threads, sequences, [&](std::size_t s) { alone.run(programs::multiply_transposed, y[s]); });
  };
  forward(2);
  products(2);
  times forwards[2], gemms[2];
  for (auto _ : state)
    for (const std::size_t threads : {1u, 2u}) {
      gemms[threads - 1].add([&] { products(threads); });
      forwards[threads - 1].add([&] { forward(threads); });
    }
  for (const std::size_t i : {0u, 1u}) {
    const std::string threads = "_" + std::to_string(i + 1);
    state.counters["forward" + threads] = forwards[i].least();
    state.counters["products" + threads] = gemms[i].least();
    state.counters["ratio" + threads] = benchmarks::median_quotient(forwards[i].processor, gemms[i].processor);
  }
  state.counters["speedup"] = forwards[0].least() / forwards[1].least();
  state.counters["products_speedup"] = gemms[0].least() / gemms[1].least();
}

void candidates(benchmark::State& state) {
  programs::model model = programs::model::load(KLENS_EXAMPLE_DATA "/wikitext-hybrid-4m");
  std::vector<std::size_t> begin_at;  // one for each candidate
  for (const programs::weight& each : model.weights())
    if (each.block >= 0) begin_at.push_back(each.stage);
  const auto count = static_cast<double>(begin_at.size());
  const auto go_on = [&](programs::state at, std::size_t stage) {
    for (; stage < model.stages(); ++stage) model.advance(at, stage);
    benchmark::DoNotOptimize(model.logits(at));
  };
  const auto flops_from = [&](std::size_t stage) {
    double sum = 0;
    for (; stage <= model.stages(); ++stage) sum += model.flops(stage, length);
    return sum;
  };
  std::vector<programs::state> kept{model.begin(tokens_for(model), sequences, length)};  // before each stage
  for (std::size_t stage = 0; stage < model.stages(); ++stage) {
    kept.push_back(kept.back());
    model.advance(kept.back(), stage);
  }
  go_on(kept[0], 0);
  std::vector<double> whole, resumed;
  for (auto _ : state) {
    whole.push_back(benchmarks::processor_ms([&] {
                      for (int i = 0; i < 4; ++i) go_on(kept[0], 0);
                    }) /
                    4);
    resumed.push_back(benchmarks::processor_ms([&] {
                        for (const std::size_t stage : begin_at) go_on(kept[stage], stage);
                      }) /
                      count);
  }
  double flops = 0;
  for (const std::size_t stage : begin_at) flops += flops_from(stage) / flops_from(0) / count;
  state.counters["by_flops"] = flops;
  state.counters["by_time"] = benchmarks::median_quotient(resumed, whole);
}

void embedded(benchmark::State& state) { measure(state, KLENS_EXAMPLE_DATA "/wikitext-hybrid-4m"); }
void mamba_130m(benchmark::State& state) { measure(state, benchmarks::mamba_130m().path()); }
void mamba2_130m(benchmark::State& state) { measure(state, benchmarks::mamba2_130m().path()); }
BENCHMARK(candidates)->Iterations(7)->Unit(benchmark::kMillisecond);
BENCHMARK(embedded)->Iterations(30)->Unit(benchmark::kMillisecond);
BENCHMARK(mamba_130m)->Iterations(5)->Unit(benchmark::kMillisecond);
BENCHMARK(mamba2_130m)->Iterations(5)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
