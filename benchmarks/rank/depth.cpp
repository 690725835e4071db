// What a ranking costs as the model grows deeper, by method: random weights, blocks of a mixer (a decaying sum over positions) and
// an MLP, five matrices a block, one scheme, 16 sequences of 32 tokens. `forwards` counts whole forwards over all tokens.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/random.hpp>
#include <klens/rank/rank_layers.hpp>
#include <string>
#include <vector>

namespace {

using matrix = klens::matrix<float>;

constexpr Eigen::Index width = 96, inner = 192, vocabulary = 512, length = 32, per_batch = 2, sequences = 16;

matrix gaussian(Eigen::Index rows, Eigen::Index columns, std::uint64_t seed) {
  matrix values(rows, columns);
  klens::random_stream random{seed};
  const double scale = 0.5 / std::sqrt(static_cast<double>(columns));
  for (Eigen::Index i = 0; i < values.size(); ++i) values.data()[i] = static_cast<float>(scale * random.normal());
  return values;
}

class deep_model {
 public:
  explicit deep_model(std::size_t blocks) {
    for (std::uint64_t b = 0; b < blocks; ++b)
      blocks_.push_back({gaussian(width, width, 10 * b + 1), gaussian(width, width, 10 * b + 2),
                         gaussian(inner, width, 10 * b + 3), gaussian(inner, width, 10 * b + 4),
                         gaussian(width, inner, 10 * b + 5)});
  }

  struct state {
    matrix hidden;
    std::size_t batch = 0;
  };

  std::vector<klens::layer> layers() {
    std::vector<klens::layer> all;
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      block& each = blocks_[b];
      const std::string prefix = "block." + std::to_string(b) + ".";
      const auto add = [&](const char* name, matrix& weights, std::size_t step) {
        all.emplace_back(prefix + name, weights);
        all.back().stage = 1 + 2 * b + step;
      };
      add("in.weight", each.in, 0);
      add("out.weight", each.out, 0);
      add("gate.weight", each.gate, 1);
      add("up.weight", each.up, 1);
      add("down.weight", each.down, 1);
    }
    all.emplace_back("head.weight", head_);
    all.back().stage = stages();
    return all;
  }

  [[nodiscard]] std::size_t stages() const { return 1 + 2 * blocks_.size(); }
  [[nodiscard]] state begin(std::size_t batch) const { return {{}, batch}; }
  void advance(state& at, std::size_t stage) const {
    if (stage == 0) {
      at.hidden = gaussian(per_batch * length, width, 1000000 + at.batch) * 10;
      return;
    }
    const block& with = blocks_[(stage - 1) / 2];
    matrix normed = at.hidden;
    for (Eigen::Index r = 0; r < normed.rows(); ++r)
      normed.row(r) *= std::sqrt(static_cast<float>(width)) / normed.row(r).norm();
    if (stage % 2 == 1) {
      matrix mixed = normed * with.in.transpose();
      for (Eigen::Index r = 0; r < mixed.rows(); ++r)
        if (r % length != 0) mixed.row(r) += 0.8f * mixed.row(r - 1);
      at.hidden += mixed.array().tanh().matrix() * with.out.transpose();
    } else {
      const matrix gated = (normed * with.gate.transpose()).array().tanh() * (normed * with.up.transpose()).array();
      at.hidden += gated * with.down.transpose();
    }
  }
  [[nodiscard]] matrix logits(const state& at) const { return at.hidden * head_.transpose(); }
  [[nodiscard]] klens::matrix_ref<float> residual(state& at) const { return at.hidden; }
  [[nodiscard]] double cost(std::size_t stage) const {
    if (stage == stages()) return static_cast<double>(vocabulary * width);
    return stage == 0 ? 0 : static_cast<double>(stage % 2 == 1 ? 2 * width * width : 3 * width * inner);
  }

 private:
  struct block {
    matrix in, out, gate, up, down;
  };
  std::vector<block> blocks_;
  matrix head_ = gaussian(vocabulary, width, 0);
};

void rank(benchmark::State& state, klens::scan_method method) {
  deep_model model{static_cast<std::size_t>(state.range(0))};
  std::vector<klens::layer> layers = model.layers();
  klens::rank_options options;
  options.batches = sequences / per_batch;
  options.sequence_length = length;
  options.method = method;
  options.local.batches = 2;
  options.stop = klens::top{layers.size() / 4};
  if (method == klens::scan_method::exact) options.stop = klens::exhaustive{};
  double forwards = 0;
  for (auto _ : state) forwards = klens::rank_layers(layers, model, {"int4-channel"}, {klens::kl{}}, options).cost.forwards;
  state.counters["forwards"] = forwards;
  state.counters["layers"] = static_cast<double>(layers.size());
}

void exhaustive(benchmark::State& state) { rank(state, klens::scan_method::exact); }
void local(benchmark::State& state) { rank(state, klens::scan_method::local); }
void refine_to_top_quarter(benchmark::State& state) { rank(state, klens::scan_method::refine); }

BENCHMARK(exhaustive)->Arg(12)->Arg(24)->Arg(48)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK(local)->Arg(12)->Arg(24)->Arg(48)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK(refine_to_top_quarter)->Arg(12)->Arg(24)->Arg(48)->Unit(benchmark::kMillisecond)->Iterations(1);

}  // namespace

BENCHMARK_MAIN();
