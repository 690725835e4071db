// What fake quantization, packing and unpacking of a weight matrix cost, beside memcpy of the same floats and what one would write
// by hand.
//   quant_round_trips --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true --benchmark_report_aggregates_only=true
// Names are <contestant>/<matrix>: 4096x4096 comes from memory, 16x4096 (256 KB) stays in the second cache.
// Compare CPU times of the same matrix. Every round trip also gives the weights' SQNR.

#include <benchmark/benchmark.h>
#include <klens/matrix.hpp>
#include <klens/quant/integer.hpp>
#include <klens/quant/packing.hpp>
#include <klens/quant/round_trip.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace {

using klens::weight_error;

struct weights {
  klens::matrix<float> original, kept;

  weights(Eigen::Index rows, Eigen::Index columns) : original(rows, columns), kept(rows, columns) {
    std::mt19937 generator(1);
    std::normal_distribution<float> gauss(0, 0.05f);
    std::vector<float> some(1 << 16);
    for (float& each : some) each = gauss(generator);
    for (Eigen::Index i = 0; i < original.size(); ++i)
      original.data()[i] = some[(static_cast<std::uint64_t>(i + 1) * 0x9E3779B97F4A7C15u) >> 48];
    kept.setZero();
  }
  [[nodiscard]] std::string name() const { return std::to_string(original.rows()) + "x" + std::to_string(original.cols()); }
  [[nodiscard]] std::size_t bytes() const { return static_cast<std::size_t>(original.size()) * sizeof(float); }
};

/// absmax with float scales as one writes it down.
weight_error plain_round_trip(std::span<const float> row, std::span<float> kept, std::size_t group_size, int bits) {
  const auto steps = static_cast<float>((1 << (bits - 1)) - 1);
  weight_error error;
  for (std::size_t first = 0; first < row.size(); first += group_size) {
    const std::size_t end = std::min(row.size(), first + group_size);
    float largest = 0;
    for (std::size_t i = first; i < end; ++i) largest = std::max(largest, std::abs(row[i]));
    const float scale = largest == 0 ? 1 : largest / steps;
    for (std::size_t i = first; i < end; ++i) {
      kept[i] = std::clamp(std::nearbyint(row[i] / scale), -steps, steps) * scale;
      const double change = kept[i] - row[i];
      error += {static_cast<double>(row[i]) * row[i], change * change};
    }
  }
  return error;
}

/// The same as Eigen arrays, for a column-count that is a multiple of the group size.
weight_error eigen_round_trip(const klens::matrix<float>& from, klens::matrix<float>& to, Eigen::Index group_size, int bits) {
  const auto steps = static_cast<float>((1 << (bits - 1)) - 1);
  weight_error error;
  for (Eigen::Index first = 0; first < from.size(); first += group_size) {
    const Eigen::Map<const Eigen::ArrayXf> group(from.data() + first, group_size);
    Eigen::Map<Eigen::ArrayXf> kept(to.data() + first, group_size);
    const float scale = std::max(group.abs().maxCoeff() / steps, std::numeric_limits<float>::min());
    kept = (group / scale).rint() * scale;
    error += {static_cast<double>(group.square().sum()), static_cast<double>((kept - group).square().sum())};
  }
  return error;
}

/// The floors: what it costs to read a matrix, to copy it and to fill it with loops of one's own.
using vector = klens::detail::batch<float>;
constexpr auto step = static_cast<Eigen::Index>(vector::size);

float read_only(const klens::matrix<float>& from) {
  vector sums[2] = {vector(0.0f), vector(0.0f)};
  for (Eigen::Index i = 0; i < from.size(); i += 2 * step)
    for (Eigen::Index k = 0; k < 2; ++k) {
      klens::detail::prefetch(from.data() + i + k * step, klens::detail::far_ahead);
      sums[k] += vector::load_unaligned(from.data() + i + k * step);
    }
  return klens::detail::sum_of<float, klens::detail::best_arch>(sums[0] + sums[1]);
}
const float* copy(const klens::matrix<float>& from, klens::matrix<float>& to) {
  for (Eigen::Index i = 0; i < from.size(); i += step) {
    klens::detail::prefetch(from.data() + i, klens::detail::far_ahead);
    vector::load_unaligned(from.data() + i).store_unaligned(to.data() + i);
  }
  return to.data();
}
const float* fill(klens::matrix<float>& to) {
  for (Eigen::Index i = 0; i < to.size(); i += step) vector(1.0f).store_unaligned(to.data() + i);
  return to.data();
}

void expect_equal(const klens::matrix<float>& measured, const klens::matrix<float>& expected, const std::string& who) {
  if (measured == expected) return;
  std::fprintf(stderr, "%s differs from the plain loop: nothing to time\n", who.c_str());
  std::exit(1);
}

template <class Use>
void add(const std::string& name, const std::shared_ptr<weights>& data, Use use) {
  benchmark::RegisterBenchmark((name + "/" + data->name()).c_str(), [=](benchmark::State& state) {
    for (auto _ : state) {
      benchmark::DoNotOptimize(use());
      benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * data->bytes()));
  });
}

template <class Quantizer>
void add_round_trip(const Quantizer& quantizer, const std::shared_ptr<weights>& data) {
  add("round_trip_" + quantizer.name(), data,
      [=] { return klens::round_trip(quantizer, data->original, data->kept).squared_error; });
}

template <class Quantizer>
void add_packing(const Quantizer& quantizer, const std::shared_ptr<weights>& data) {
  const std::size_t row_bytes = quantizer.bytes(static_cast<std::size_t>(data->original.cols()));
  const auto packed = std::make_shared<std::vector<std::byte>>(row_bytes * static_cast<std::size_t>(data->original.rows()));
  const auto pack = [=] {
    klens::pack(quantizer, data->original, *packed);
    return packed->data();
  };
  const auto unpack = [=] {
    klens::unpack(quantizer, *packed, data->kept);
    return data->kept.data();
  };
  pack();
  unpack();
  klens::matrix<float> expected(data->original.rows(), data->original.cols());
  klens::round_trip(quantizer, data->original, expected);
  expect_equal(data->kept, expected, "unpack of " + quantizer.name());
  add("pack_" + quantizer.name(), data, pack);
  add("unpack_" + quantizer.name(), data, unpack);
}

void add_contestants(const std::shared_ptr<weights>& data) {
  add("memcpy", data, [=] { return std::memcpy(data->kept.data(), data->original.data(), data->bytes()); });
  add("read_only", data, [=] { return read_only(data->original); });
  add("copy", data, [=] { return copy(data->original, data->kept); });
  add("fill", data, [=] { return fill(data->kept); });
  for (const std::size_t group_size : {32, 64, 128, 0}) {
    add_round_trip(klens::int4{group_size}, data);
    add_round_trip(klens::int8{group_size}, data);
    add_round_trip(klens::int4_asym{group_size}, data);
    add_round_trip(klens::int8_asym{group_size}, data);
  }
  add("in_place_int4-g64", data, [=] {  // weights that are rounded already: the work is the same
    return klens::round_trip(klens::int4{.group_size = 64}, data->kept, data->kept).squared_error;
  });
  for (const std::size_t group_size : {32, 64, 128, 0}) {
    add_packing(klens::int4{group_size}, data);
    add_packing(klens::int8{group_size}, data);
  }
  const auto plain = [=] {
    weight_error sum;
    for (Eigen::Index r = 0; r < data->original.rows(); ++r)
      sum += plain_round_trip(klens::row(data->original, r), klens::row(data->kept, r), 64, 4);
    return sum.squared_error;
  };
  const auto eigen = [=] { return eigen_round_trip(data->original, data->kept, 64, 4).squared_error; };
  plain();
  klens::matrix<float> expected(data->original.rows(), data->original.cols());
  klens::round_trip(klens::int4{64, klens::scale_kind::f32}, data->original, expected);
  expect_equal(expected, data->kept, "int4-g64-f32");
  eigen();
  expect_equal(data->kept, expected, "the Eigen expression");
  add("plain_int4-g64", data, plain);
  add("eigen_int4-g64", data, eigen);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  add_contestants(std::make_shared<weights>(4096, 4096));
  add_contestants(std::make_shared<weights>(16, 4096));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
