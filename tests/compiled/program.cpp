// Prints the bits of what klens computes: divergences of some rows, and round trips and stored forms of some weights.
#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <klens/metric/compare_rows.hpp>
#include <klens/quant/packing.hpp>
#include <limits>
#include <vector>

namespace {

/// Numbers around 0, mostly small, the same on every machine. (Not inlined: a product would be fused with the sum it goes into.)
class some_numbers {
 public:
  [[gnu::noinline]] float next(float size) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    const float uniform = static_cast<float>(state_ >> 40) * 0x1p-23f - 1;
    return size * uniform * uniform * uniform;
  }

 private:
  std::uint64_t state_ = 1;
};

void print(double value) { std::printf(" %016" PRIx64, std::bit_cast<std::uint64_t>(value)); }

void print_rows(std::size_t n, float size, float by, bool masked) {
  some_numbers numbers;
  std::vector<float> x(n), y(n);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = numbers.next(size);
    y[i] = x[i] + numbers.next(by);
    if (masked && i % 5 == 1) x[i] = y[i] = -std::numeric_limits<float>::infinity();
  }
  using klens::row_sums;
  const klens::reference_row known = klens::describe_reference(x);
  const klens::row_damage all = klens::compare_rows(
      x, y, known, row_sums::kl | row_sums::reverse_kl | row_sums::js | row_sums::squared_error | row_sums::same_top);
  std::printf("rows %zu %g %g %d: %zu %d", n, static_cast<double>(size), static_cast<double>(by), masked, known.top,
              all.same_top);
  for (const double each : {known.log_sum_exp, known.energy, all.kl, all.reverse_kl, all.js, all.squared_error,
                            all.log_partition_change, klens::compare_rows(x, y, known, row_sums::kl).kl})
    print(each);
  std::printf("\n");
}

void print_weights(const char* name, std::size_t n) {
  some_numbers numbers;
  std::vector<float> weights(n), kept(n), unpacked(n);
  for (float& each : weights) each = numbers.next(0.1f);
  const klens::packer packer{klens::scheme{name}};
  const klens::weight_error error = packer.round_trip(weights, kept);
  std::vector<std::byte> packed(packer.bytes(n));
  packer.pack(weights, packed);
  packer.unpack(packed, unpacked);
  std::uint64_t of_kept = 0, of_packed = 0;
  for (const float each : kept) of_kept = of_kept * 31 + std::bit_cast<std::uint32_t>(each);
  for (const std::byte each : packed) of_packed = of_packed * 31 + std::to_integer<unsigned>(each);
  std::printf("%s %zu: %016" PRIx64 " %016" PRIx64 " %d", name, n, of_kept, of_packed, kept == unpacked);
  print(error.energy);
  print(error.squared_error);
  std::printf("\n");
}

}  // namespace

int main() {
  for (const std::size_t n : {1, 5, 63, 1024, 5003})
    for (const float by : {1e-4f, 0.5f, 30.0f})
      for (const bool masked : {false, true}) print_rows(n, 8, by, masked);
  for (const char* const name :
       {"int4-g64", "int8-channel", "int3-asym-g48-f32", "int4-signed-g32", "fp16", "bf16", "f32", "q4_0", "q8_0", "q4_1",
        "q5_0", "q5_1", "fp8-e4m3-channel", "fp8-e5m2-channel", "mxfp4", "nvfp4", "nf4-g48"})
    for (const std::size_t n : {32, 4128}) print_weights(name, n);
  for (const char* const name : {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k"}) print_weights(name, 4352);
}
