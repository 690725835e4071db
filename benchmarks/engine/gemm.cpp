// Who should carry out the matrix products: Eigen, OpenBLAS or oneDNN, one thread each, over all weights of a model at 4 sequences of
// 256 tokens. They take turns within a round; times are of the processor, so that other work on the machine counts little.
// Counters, over the rounds: least time of each, ms; median of Eigen's time over the other's.
#include <benchmark/benchmark.h>
#include <cblas.h>
#include <dnnl.h>
#include <omp.h>

#include <array>
#include <string>
#include <vector>

#include "engine/model.hpp"
#include "random_model.hpp"
#include "rounds.hpp"

namespace {

using klens::const_matrix_ref, klens::matrix, klens::matrix_ref;

void eigen(const const_matrix_ref<float>& a, const const_matrix_ref<float>& b, matrix_ref<float> c) {
  c.noalias() = a * b.transpose();
}
void openblas(const const_matrix_ref<float>& a, const const_matrix_ref<float>& b, matrix_ref<float> c) {
  const auto narrow = [](Eigen::Index extent) { return static_cast<blasint>(extent); };
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, narrow(c.rows()), narrow(c.cols()), narrow(a.cols()), 1, a.data(),
              narrow(a.outerStride()), b.data(), narrow(b.outerStride()), 0, c.data(), narrow(c.outerStride()));
}
void onednn(const const_matrix_ref<float>& a, const const_matrix_ref<float>& b, matrix_ref<float> c) {
  dnnl_sgemm('N', 'T', c.rows(), c.cols(), a.cols(), 1, a.data(), a.outerStride(), b.data(), b.outerStride(), 0, c.data(),
             c.outerStride());
}

void measure(benchmark::State& state, const std::filesystem::path& folder) {
  constexpr std::size_t sequences = 4, length = 256;
  openblas_set_num_threads(1);
  omp_set_num_threads(1);
  programs::model model = programs::model::load(folder);
  const benchmarks::products work(model, length);
  const std::pair<std::string, decltype(&eigen)> all[] = {{"eigen", eigen}, {"openblas", openblas}, {"onednn", onednn}};
  std::array<std::vector<double>, 3> times;
  matrix<float> y = work.result(), first = y;
  work.run(eigen, first);
  for (const auto& [name, gemm] : all) {
    work.run(gemm, y);
    if (!y.isApprox(first, 1e-4f)) state.SkipWithError((name + " gives another product").c_str());
  }
  for (auto _ : state)
    for (std::size_t i = 0; i < times.size(); ++i)
      times[i].push_back(benchmarks::processor_ms([&] {
        for (std::size_t s = 0; s < sequences; ++s) work.run(all[i].second, y);
      }));
  for (std::size_t i = 0; i < times.size(); ++i) {
    state.counters[all[i].first] = std::ranges::min(times[i]);
    if (i > 0) state.counters["eigen/" + all[i].first] = benchmarks::median_quotient(times[0], times[i]);
  }
}

void embedded(benchmark::State& state) { measure(state, KLENS_EXAMPLE_DATA "/wikitext-hybrid-4m"); }
void mamba_130m(benchmark::State& state) { measure(state, benchmarks::mamba_130m().path()); }
void mamba2_130m(benchmark::State& state) { measure(state, benchmarks::mamba2_130m().path()); }
BENCHMARK(embedded)->Iterations(30)->Unit(benchmark::kMillisecond);
BENCHMARK(mamba_130m)->Iterations(3)->Unit(benchmark::kMillisecond);
BENCHMARK(mamba2_130m)->Iterations(3)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
