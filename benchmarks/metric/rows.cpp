// What one comparison of two rows of logits costs, beside the memory floor and what one would write by hand.
//   metric_rows --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true --benchmark_report_aggregates_only=true
// Rows come from a ring larger than the caches, so that every contestant finds them in memory; "cached" rows stay in the cache.
// Names are <contestant>/<rows>x<vocabulary>; compare items_per_second (elements of one row) or the CPU times of equal shapes.

#include <benchmark/benchmark.h>
#include <klens/matrix.hpp>
#include <klens/metric/compare_rows.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace {

using klens::row_sums;
constexpr row_sums full_sweep = row_sums::kl | row_sums::reverse_kl | row_sums::squared_error | row_sums::same_top;

struct shape {
  std::size_t rows, vocabulary;
  bool cached = false;

  [[nodiscard]] std::size_t size() const { return rows * vocabulary; }
  [[nodiscard]] std::string name() const {
    return std::to_string(rows) + "x" + std::to_string(vocabulary) + (cached ? "_cached" : "");
  }
};

/// Reference logits, and observed ones as after 8-bit and after 4-bit weights: half of the latter's differences are above 0.25.
struct logit_ring {
  static constexpr std::size_t elements = std::size_t{96} << 20;
  std::vector<float> reference, small_damage, large_damage;

  logit_ring() : reference(elements), small_damage(elements), large_damage(elements) {
    std::vector<float> gauss(1 << 16);
    std::mt19937 generator(1);
    std::normal_distribution<float> distribution;
    for (float& each : gauss) each = distribution(generator);
    for (std::size_t i = 0; i < elements; ++i) {
      const std::uint64_t random = (i + 1) * 0x9E3779B97F4A7C15u ^ (i >> 7) * 0xBF58476D1CE4E5B9u;
      const float noise = gauss[random >> 32 & 0xFFFF];
      reference[i] = 2 * gauss[random >> 48];
      small_damage[i] = reference[i] + 0.02f * noise;
      large_damage[i] = reference[i] + 0.37f * noise;
    }
  }
};

/// One shape's walk through the ring.
class logits {
 public:
  logits(const logit_ring& ring, shape of)
      : ring_(ring), shape_(of), batches_(of.cached ? 1 : logit_ring::elements / of.size()) {
    for (std::size_t r = 0; r < batches_ * of.rows; ++r)
      known_.push_back(klens::describe_reference({ring.reference.data() + r * of.vocabulary, of.vocabulary}));
  }

  /// use(reference row, observed row, known) for every row of the next batch.
  template <class Use>
  void next_batch(const std::vector<float>& observed, const Use& use) {
    at_ = (at_ + 1) % batches_;
    for (std::size_t r = at_ * shape_.rows; r < (at_ + 1) * shape_.rows; ++r) {
      const std::size_t from = r * shape_.vocabulary;
      use(std::span(ring_.reference).subspan(from, shape_.vocabulary), std::span(observed).subspan(from, shape_.vocabulary),
          known_[r]);
    }
  }
  [[nodiscard]] const shape& of() const { return shape_; }
  [[nodiscard]] const logit_ring& ring() const { return ring_; }

 private:
  const logit_ring& ring_;
  shape shape_;
  std::size_t batches_;
  std::size_t at_ = 0;
  std::vector<klens::reference_row> known_;
};

using row = std::span<const float>;

/// The floor: both rows once through the registers.
float read_only(row x, row y) {
  using vector = klens::detail::batch<float>;
  vector sums[4] = {vector(0.0f), vector(0.0f), vector(0.0f), vector(0.0f)};
  std::size_t at = 0;
  for (; at + 2 * vector::size <= x.size(); at += 2 * vector::size) {
    klens::detail::prefetch(x.data() + at, 4096);
    klens::detail::prefetch(y.data() + at, 4096);
    sums[0] += vector::load_unaligned(x.data() + at);
    sums[1] += vector::load_unaligned(y.data() + at);
    sums[2] += vector::load_unaligned(x.data() + at + vector::size);
    sums[3] += vector::load_unaligned(y.data() + at + vector::size);
  }
  return klens::detail::sum_of<float, klens::detail::best_arch>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/// KL alone as one writes it down: two sweeps in double for the log-sum-exps, one for the sum.
double plain_kl(row x, row y) {
  const auto log_sum_exp = [](row logits) {
    const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
    double sum = 0;
    for (const float each : logits) sum += std::exp(static_cast<double>(each) - largest);
    return largest + std::log(sum);
  };
  const double x_sum = log_sum_exp(x), y_sum = log_sum_exp(y);
  double kl = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double log_p = static_cast<double>(x[i]) - x_sum;
    kl += std::exp(log_p) * (log_p - (static_cast<double>(y[i]) - y_sum));
  }
  return kl;
}

/// KL alone as Eigen arrays, in float.
float eigen_kl(row x, row y) {
  const Eigen::Map<const Eigen::ArrayXf> a(x.data(), static_cast<Eigen::Index>(x.size()));
  const Eigen::Map<const Eigen::ArrayXf> b(y.data(), static_cast<Eigen::Index>(y.size()));
  const float a_max = a.maxCoeff(), b_max = b.maxCoeff();
  const float a_sum = a_max + std::log((a - a_max).exp().sum()), b_sum = b_max + std::log((b - b_max).exp().sum());
  return ((a - a_sum).exp() * ((a - a_sum) - (b - b_sum))).sum();
}

void check(logits& data) {
  data.next_batch(data.ring().large_damage, [](row x, row y, const klens::reference_row& known) {
    const double measured = klens::compare_rows(x, y, known, full_sweep).kl, expected = plain_kl(x, y);
    if (std::abs(measured - expected) <= 1e-5 * expected) return;
    std::fprintf(stderr, "KL is %.9g, the plain loop says %.9g: nothing to time\n", measured, expected);
    std::exit(1);
  });
}

void add_contestants(const std::shared_ptr<logits>& data) {
  const auto add = [&](const char* name, const std::vector<float>& observed, auto use) {
    benchmark::RegisterBenchmark(
        (std::string{name} + "/" + data->of().name()).c_str(), [=, &observed](benchmark::State& state) {
          for (auto _ : state) {
            double sum = 0;
            data->next_batch(observed, [&](row x, row y, const klens::reference_row& known) { sum += use(x, y, known); });
            benchmark::DoNotOptimize(sum);
          }
          state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * data->of().size()));
        });
  };
  const logit_ring& ring = data->ring();
  const auto sweep = [](row_sums needs) {
    return [needs](row x, row y, const klens::reference_row& known) { return klens::compare_rows(x, y, known, needs).kl; };
  };
  add("read_only", ring.small_damage, [](row x, row y, const auto&) { return static_cast<double>(read_only(x, y)); });
  add("full_small", ring.small_damage, sweep(full_sweep));
  add("full_large", ring.large_damage, sweep(full_sweep));
  add("kl_alone", ring.small_damage, sweep(row_sums::kl));
  add("full_js", ring.small_damage, sweep(full_sweep | row_sums::js));
  add("squared_error", ring.small_damage, sweep(row_sums::squared_error));
  add("describe", ring.small_damage, [](row x, row, const auto&) { return klens::describe_reference(x).log_sum_exp; });
  add("plain_kl", ring.small_damage, [](row x, row y, const auto&) { return plain_kl(x, y); });
  add("eigen_kl", ring.small_damage, [](row x, row y, const auto&) { return static_cast<double>(eigen_kl(x, y)); });
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const logit_ring ring;
  for (const shape each : {shape{512, 2048}, shape{128, 32000}, shape{32, 128256}, shape{16, 256000}, shape{32, 2048, true}}) {
    const auto data = std::make_shared<logits>(ring, each);
    check(*data);
    add_contestants(data);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
