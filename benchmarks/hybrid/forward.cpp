// A forward of the embedded model, in turn with its matrix products alone: the same shapes, sequence by sequence, through the same GEMM.
// The counter `ratio` is the median of forward / products over the pairs of one run.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <klens/detail/parallel_for.hpp>
#include <numeric>
#include <vector>

#include "engine/model.hpp"
#include "engine/products.hpp"

namespace {

constexpr std::size_t sequences = 4, length = 256;

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

void forward(benchmark::State& state) {
  hybrid::model model = hybrid::model::load(KLENS_EXAMPLE_DATA "/wikitext-hybrid-4m");
  const auto threads = static_cast<std::size_t>(state.range(0));
  std::vector<std::int32_t> tokens(sequences * length);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 37 % model.vocabulary());
  const std::vector<hybrid::weight> weights = model.weights();
  std::size_t widest = 0, most_rows = 0;
  for (const hybrid::weight& each : weights) {
    widest = std::max(widest, static_cast<std::size_t>(each.values.cols()));
    most_rows = std::max(most_rows, static_cast<std::size_t>(each.values.rows()));
  }
  const klens::matrix<float> x = klens::matrix<float>::Random(length, static_cast<Eigen::Index>(widest));
  std::vector<klens::matrix<float>> y(sequences, klens::matrix<float>(length, static_cast<Eigen::Index>(most_rows)));

  const auto whole = [&] {
    hybrid::state at = model.begin(tokens, sequences, length);
    for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(at, stage, threads);
    benchmark::DoNotOptimize(model.logits(at, threads));
  };
  const auto products = [&] {
    klens::detail::parallel_for(threads, sequences, [&](std::size_t s) {
      for (const hybrid::weight& each : weights)
        hybrid::multiply_transposed(x.leftCols(each.values.cols()), each.values, y[s].leftCols(each.values.rows()));
    });
    benchmark::ClobberMemory();
  };
  whole();
  products();
  std::vector<double> forwards, alone, ratios;
  for (auto _ : state) {
    alone.push_back(seconds_of(products));
    forwards.push_back(seconds_of(whole));
    ratios.push_back(forwards.back() / alone.back());
    state.SetIterationTime(forwards.back());
  }
  state.counters["forward_ms"] = 1e3 * median(forwards);
  state.counters["products_ms"] = 1e3 * median(alone);
  state.counters["ratio"] = median(ratios);
}
BENCHMARK(forward)->Arg(1)->Arg(2)->UseManualTime()->Iterations(40)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
