#include <klens/quant/float8.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <klens/error.hpp>
#include <limits>
#include <string>
#include <support/quantized_row.hpp>
#include <support/reference_quantizers.hpp>
#include <vector>

namespace {

using support::kept_by;
using support::row;
using support::same_bits;

template <class Quantizer>
std::vector<std::byte> packed_by(const Quantizer& quantizer, const row& weights) {
  std::vector<std::byte> packed(quantizer.bytes(weights.size()));
  quantizer.pack(weights, packed);
  return packed;
}
template <class Quantizer>
row unpacked_by(const Quantizer& quantizer, const std::vector<std::byte>& packed, std::size_t columns) {
  row kept(columns);
  quantizer.unpack(packed, kept);
  return kept;
}

/// The number of a code without its sign: exponent and fraction, by the definition.
double number_of(int code, int fraction_bits) {
  const int bias = fraction_bits == 3 ? 7 : 15, exponent = code >> fraction_bits, ones = 1 << fraction_bits;
  const int fraction = code % ones;
  return exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                       : std::ldexp(ones + fraction, exponent - bias - fraction_bits);
}

/// Every number, the halves between neighbours and what lies next to those, in a row whose scale is 1.
template <int FractionBits>
void expect_nearest(int last_code) {
  const auto largest = static_cast<float>(number_of(last_code, FractionBits));
  row weights{largest}, expected{largest};
  std::vector<int> codes{last_code};
  for (int code = 0; code < last_code; ++code) {
    const double below = number_of(code, FractionBits), above = number_of(code + 1, FractionBits);
    const auto half_way = static_cast<float>((below + above) / 2);
    const auto add = [&](float weight, int nearest) {
      for (const float sign : {1.0f, -1.0f}) {
        weights.push_back(sign * weight);
        expected.push_back(sign * static_cast<float>(number_of(nearest, FractionBits)));
        codes.push_back(sign < 0 ? nearest + 128 : nearest);
      }
    };
    add(static_cast<float>(below), code);
    add(half_way, code % 2 == 0 ? code : code + 1);
    add(std::nextafter(half_way, 0.0f), code);
    add(std::nextafter(half_way, INFINITY), code + 1);
  }
  const klens::float8<FractionBits> quantizer;
  CHECK(same_bits(kept_by(quantizer, weights), expected));
  const std::vector<std::byte> packed = packed_by(quantizer, weights);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) wrong += std::to_integer<int>(packed[i]) == codes[i] ? 0 : 1;
  CHECK(wrong == 0);
  CHECK(same_bits(unpacked_by(quantizer, packed, weights.size()), expected));
}

}  // namespace

TEST_CASE("fp8-e4m3: every number, the halves between them and what lies next to those") { expect_nearest<3>(0x7e); }
TEST_CASE("fp8-e5m2: every number, the halves between them and what lies next to those") { expect_nearest<2>(0x7b); }

TEST_CASE("fp8: by hand") {
  const row weights{-896, 1, 0.001f, 0.0f, -0.0f};  // scale 2; the third is half of a subnormal step, and a little more
  CHECK(same_bits(kept_by(klens::fp8_e4m3{}, weights), {-896, 1, 0, 0, -0.0f}));
  CHECK(packed_by(klens::fp8_e4m3{}, weights) ==
        std::vector{std::byte{0xfe}, std::byte{0x30}, std::byte{0x00}, std::byte{0x00}, std::byte{0x80},  // codes
                    std::byte{0x00}, std::byte{0x00}, std::byte{0x00}, std::byte{0x40}});                 // 2.0f
  CHECK(klens::fp8_e4m3::bytes(4096) == 4100);
  CHECK(klens::fp8_e5m2::bytes(0) == 0);
  CHECK(packed_by(klens::fp8_e5m2{}, {57344, -1.25f})[1] == std::byte{0xbd});
}

TEST_CASE("fp8: rows of zeros, and those whose scale underflows or is subnormal") {
  CHECK(same_bits(kept_by(klens::fp8_e4m3{}, row(33, 0.0f)), row(33, 0.0f)));
  CHECK(packed_by(klens::fp8_e4m3{}, row(33, 0.0f)) == std::vector<std::byte>(37));
  CHECK(same_bits(kept_by(klens::fp8_e4m3{}, {1e-44f, -1e-44f, 0}), {0, -0.0f, 0}));
  CHECK(kept_by(klens::fp8_e5m2{}, row{1e-41f, 0}) == row{0, 0});
  // 1000 / 448 is 2 in steps of the smallest float, so 1000 would be 500: it is 448 at most.
  const float step = std::numeric_limits<float>::denorm_min();
  CHECK(kept_by(klens::fp8_e4m3{}, row{1000 * step, -2 * step, 0}) == row{896 * step, -2 * step, 0});
}

TEST_CASE("fp8: what is packed comes back as the round trip, for any length and in place") {
  for (const std::size_t length : {0, 1, 2, 3, 15, 16, 17, 33, 64, 100, 1023, 5000}) {
    std::size_t wrong = 0;
    for (row weights : rows_of_all_kinds(length, length + 1)) {
      const auto check = [&](const auto& quantizer) {
        const row kept = kept_by(quantizer, weights);
        wrong += same_bits(unpacked_by(quantizer, packed_by(quantizer, weights), length), kept) ? 0 : 1;
        row in_place = weights;
        quantizer.round_trip(in_place, in_place);
        wrong += same_bits(in_place, kept) ? 0 : 1;
      };
      check(klens::fp8_e4m3{});
      check(klens::fp8_e5m2{});
    }
    CHECK_MESSAGE(wrong == 0, "length " << length);
  }
}

TEST_CASE("fp8: weights that cannot be stored") {
  const float largest = std::numeric_limits<float>::max();
  row weights(40, 1.0f), kept(40);
  for (const float bad : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY}) {
    weights[37] = bad;
    CHECK_THROWS_WITH_AS(
        klens::fp8_e4m3{}.round_trip(weights, kept),
        ("fp8-e4m3-channel: the weight in column 37 is " + std::to_string(bad) + "; only finite weights can be stored").c_str(),
        klens::numeric_error);
    std::vector<std::byte> packed(44);
    CHECK_THROWS_AS(klens::fp8_e5m2{}.pack(weights, packed), klens::numeric_error);
  }
  for (const row& extreme : {row{largest, -1}, row{-largest, largest}}) {
    row values(2);
    CHECK_THROWS_WITH_AS(klens::fp8_e4m3{}.round_trip(extreme, values), doctest::Contains("the range of float; use bf16"),
                         klens::numeric_error);
  }
  CHECK(std::isfinite(kept_by(klens::fp8_e4m3{}, {0x1.ffffp127f})[0]));
  CHECK(std::isfinite(kept_by(klens::fp8_e5m2{}, {0x1.ffffp127f})[0]));
  CHECK_THROWS_AS(klens::fp8_e4m3{}.round_trip(row(3), kept), klens::shape_error);
}
