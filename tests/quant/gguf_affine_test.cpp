#include <klens/quant/gguf_affine.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
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

/// The definition, one weight after the other.
row affine(const row& weights, int bits) {
  row kept;
  for (std::size_t first = 0; first < weights.size(); first += 32) {
    const auto [least, most] = std::minmax_element(weights.begin() + static_cast<std::ptrdiff_t>(first),
                                                   weights.begin() + static_cast<std::ptrdiff_t>(first + 32));
    const int top = (1 << bits) - 1;
    const volatile float range = *most - *least;
    const float scale = range / static_cast<float>(top), inverse = scale == 0 || std::isinf(1 / scale) ? 0 : 1 / scale;
    for (std::size_t i = first; i < first + 32; ++i) {
      const volatile float above = weights[i] - *least, steps = above * inverse, shifted = steps + 0.5f;
      const volatile float product =
          static_cast<float>(std::min(top, static_cast<int>(shifted))) * reference::nearest_fp16(scale);
      kept.push_back(product + reference::nearest_fp16(*least));
    }
  }
  return kept;
}

}  // namespace

TEST_CASE("q4_1 and q5_1: by hand") {
  row weights(32, 2.0f);  // the least one, so m = 2: zero need not be near
  weights[1] = 17;        // d = 1 with 4 bits
  weights[2] = 4.5f;      // code floor(2.5 + 0.5)
  weights[17] = 4.25f;
  row expected(32, 2.0f);
  expected[1] = 17, expected[2] = 5, expected[17] = 4;
  CHECK(kept_by(klens::q4_1{}, weights) == expected);
  const std::vector<std::byte> packed = packed_by(klens::q4_1{}, weights);
  CHECK(packed[1] == std::byte{0x3c});      // d, 1 in fp16
  CHECK(packed[3] == std::byte{0x40});      // m, 2
  CHECK(packed[4 + 1] == std::byte{0x2f});  // code 1, 15, in the lower half, code 17, 2, in the upper

  weights[1] = 2 + 31;  // and with 5
  expected[1] = 33;
  CHECK(kept_by(klens::q5_1{}, weights) == expected);
  CHECK(packed_by(klens::q5_1{}, weights)[4] == std::byte{2});  // the fifth bit of code 1
  static_assert(klens::q4_1::bytes(64) == 40 && klens::q5_1::bytes(64) == 48);
}

TEST_CASE("q4_1 and q5_1: equal to the definition, bit for bit; what is packed comes back as the round trip") {
  for (const std::size_t length : {0, 32, 64, 544, 1056})
    for (std::uint64_t seed = 1; seed <= 10; ++seed)
      for (row weights : rows_of_all_kinds(length, seed)) {
        for (float& each : weights) each = std::clamp(each, -60000.0f, 60000.0f);
        const auto check = [&](const auto& quantizer, int bits) {
          const row expected = affine(weights, bits);
          CHECK(same_bits(kept_by(quantizer, weights), expected));
          row unpacked(length), in_place = weights;
          quantizer.unpack(packed_by(quantizer, weights), unpacked);
          CHECK(same_bits(unpacked, expected));
          quantizer.round_trip(in_place, in_place);
          CHECK(same_bits(in_place, expected));
        };
        check(klens::q4_1{}, 4);
        check(klens::q5_1{}, 5);
      }
}

TEST_CASE("q4_1 and q5_1: what cannot be stored") {
  row weights(63), kept(63);
  CHECK_THROWS_WITH_AS(klens::q4_1{}.round_trip(weights, kept),
                       "q4_1: a row of 63 columns is no multiple of 32; use an int4-asym or int5-asym scheme for it",
                       klens::argument_error);
  weights.assign(640, 1), kept.resize(640);
  weights[600] = std::nanf("");
  CHECK_THROWS_WITH_AS(klens::q5_1{}.round_trip(weights, kept), doctest::Contains("q5_1: the weight in column 600 is "),
                       klens::numeric_error);
  weights[600] = -70000;
  CHECK_THROWS_WITH_AS(
      klens::q5_1{}.round_trip(weights, kept),
      "q5_1: columns 576 to 607 need a scale of -70000.000000, or a least value of that size, and fp16 ends at "
      "65504; use bf16",
      klens::numeric_error);
  CHECK_THROWS_AS(klens::q5_1{}.round_trip(row(32), kept), klens::shape_error);
}
