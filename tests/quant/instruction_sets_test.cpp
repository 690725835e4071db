#include <klens/quant/scheme.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <klens/io/safetensors.hpp>
#include <string>
#include <support/near.hpp>
#include <support/quantized_row.hpp>
#include <support/reference_quantizers.hpp>
#include <type_traits>
#include <utility>
#include <vector>

// Every quantizer on every instruction set that this program may contain, against the definitions: the same bits from all.
namespace {

using support::row;
using support::same_bits;

long double squared_distance(const row& a, const row& b) {
  long double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<long double>(a[i]) - b[i], 2);
  return sum;
}

/// Beside weights of a usual size, squares that float cannot hold count for nothing.
double lost_in_float(const row& weights) {
  const bool usual = std::any_of(weights.begin(), weights.end(), [](float w) { return std::abs(w) >= 0x1p-30f; });
  return usual ? 0x1p-126 * static_cast<double>(weights.size()) : 0;
}

/// How a quantizer stores rows, as its loops are told.
template <class Quantizer>
const Quantizer& rows_of(const Quantizer& quantizer) {
  return quantizer;
}
template <int Bits, klens::grid Grid>
klens::detail::integer_rows rows_of(const klens::integer<Bits, Grid>& quantizer) {
  return quantizer.rows();
}

template <class Arch, class Quantizer>
void expect(const Quantizer& quantizer, const row& weights, const row& expected) {
  INFO(quantizer.name());
  const auto rows = rows_of(quantizer);
  using loops = klens::detail::row_loops<Arch, std::remove_const_t<decltype(rows)>>;
  row kept(weights.size()), unpacked(weights.size());
  klens::weight_error error;
  CHECK_FALSE(loops::round_trip(rows, weights, kept, error).found());
  CHECK(same_bits(kept, expected));
  CHECK(error.squared_error == near{squared_distance(expected, weights), 2e-5, lost_in_float(weights)});
  std::vector<std::byte> packed(quantizer.bytes(weights.size()));
  CHECK_FALSE(loops::pack(rows, weights, packed.data()).found());
  loops::unpack(rows, packed.data(), unpacked);
  CHECK(same_bits(unpacked, expected));
}

template <class Arch, int Bits, klens::grid Grid>
void expect_integer(const row& weights, std::size_t group_size, reference::grid where) {
  for (const klens::scale_kind scale : {klens::scale_kind::f16, klens::scale_kind::f32}) {
    const bool in_fp16 = scale == klens::scale_kind::f16;
    expect<Arch>(klens::integer<Bits, Grid>{group_size, scale}, weights,
                 reference::integer(weights, Bits, where, group_size, in_fp16).kept);
  }
}

/// The same bits as from the widest instruction set, which golden_test.cpp and the quantizer's own test hold.
template <class Arch, class Quantizer>
void expect_own(const Quantizer& quantizer, const row& weights) {
  expect<Arch>(quantizer, weights, support::kept_by(quantizer, weights));
}

/// Rows of all kinds and lengths, and those of the golden file, whose values golden_test.cpp holds.
const std::vector<row>& all_rows() {
  static const std::vector<row> all = [] {
    std::vector<row> rows;
    for (const std::size_t length : {1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 96, 127, 160, 768, 2080})
      for (row& each : rows_of_all_kinds(length, length + 2)) rows.push_back(std::move(each));
    const klens::safetensors golden{KLENS_TEST_DATA "/golden-quantizers.safetensors"};
    for (const std::string kind : {"plain", "outlier", "skew", "edge", "tail"}) {
      const row values = golden.values<float>(kind + ".weight");
      const auto columns = static_cast<std::ptrdiff_t>(golden.at(kind + ".weight").shape[1]);
      for (auto at = values.begin(); at != values.end(); at += columns) rows.emplace_back(at, at + columns);
    }
    for (row& each : rows)
      for (float& w : each) w = std::clamp(w, -60000.0f, 60000.0f);
    return rows;
  }();
  return all;
}

template <class Arch>
void expect_definitions() {
  if constexpr (Arch::supported()) {  // by the compiler's flags
    INFO(Arch::name());
    for (const row& weights : all_rows()) {
      const std::size_t length = weights.size();
      CAPTURE(length);
      for (const std::size_t group_size : {0, 9, 32, 64, 128}) {
        expect_integer<Arch, 4, klens::grid::absmax>(weights, group_size, reference::grid::absmax);
        expect_integer<Arch, 8, klens::grid::absmax>(weights, group_size, reference::grid::absmax);
        expect_integer<Arch, 4, klens::grid::signed_>(weights, group_size, reference::grid::signed_);
        expect_integer<Arch, 8, klens::grid::signed_>(weights, group_size, reference::grid::signed_);
        expect_integer<Arch, 4, klens::grid::asym>(weights, group_size, reference::grid::asym);
        expect_integer<Arch, 8, klens::grid::asym>(weights, group_size, reference::grid::asym);
      }
      row nearest(length);
      std::transform(weights.begin(), weights.end(), nearest.begin(), reference::nearest_fp16);
      expect<Arch>(klens::fp16{}, weights, nearest);
      std::transform(weights.begin(), weights.end(), nearest.begin(), reference::nearest_bf16);
      expect<Arch>(klens::bf16{}, weights, nearest);
      expect_own<Arch>(klens::fp8_e4m3{}, weights);
      expect_own<Arch>(klens::fp8_e5m2{}, weights);
      expect_own<Arch>(klens::mxfp4{}, weights);
      expect_own<Arch>(klens::nvfp4{}, weights);
      if (length % 256 == 0) {
        expect_own<Arch>(klens::q2_k{}, weights);
        expect_own<Arch>(klens::q3_k{}, weights);
        expect_own<Arch>(klens::q4_k{}, weights);
        expect_own<Arch>(klens::q5_k{}, weights);
        expect_own<Arch>(klens::q6_k{}, weights);
      }
      for (const std::size_t group_size : {0, 9, 64}) expect_own<Arch>(klens::nf4{group_size}, weights);
      if (length % 32 != 0) continue;
      expect<Arch>(klens::q4_0{}, weights, reference::gguf(weights, 4).kept);
      expect<Arch>(klens::q5_0{}, weights, reference::gguf(weights, 5).kept);
      expect_own<Arch>(klens::q4_1{}, weights);
      expect_own<Arch>(klens::q5_1{}, weights);
      expect<Arch>(klens::q8_0{}, weights, reference::gguf(weights, 8).kept);
    }
  }
}

}  // namespace

TEST_CASE("quantizers: the widest instruction set") { expect_definitions<klens::detail::best_arch>(); }
TEST_CASE("quantizers: SSE2") { expect_definitions<xsimd::sse2>(); }
#if !defined(__SANITIZE_ADDRESS__)  // compilers take minutes for all of them with sanitizers, which look for something else
TEST_CASE("quantizers: SSE4.2") { expect_definitions<xsimd::sse4_2>(); }
TEST_CASE("quantizers: AVX") { expect_definitions<xsimd::avx>(); }
TEST_CASE("quantizers: AVX2") { expect_definitions<xsimd::avx2>(); }
TEST_CASE("quantizers: AVX-512") { expect_definitions<xsimd::avx512bw>(); }
#endif
