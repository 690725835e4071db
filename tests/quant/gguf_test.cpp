#include <klens/quant/gguf.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <klens/error.hpp>
#include <limits>
#include <numeric>
#include <string>
#include <support/quantized_row.hpp>
#include <support/reference_quantizers.hpp>
#include <vector>

namespace {

using support::kept_by;
using support::row;
using support::same_bits;

}  // namespace

TEST_CASE("q4_0: by hand") {
  row weights(32, 0.0f);
  weights[3] = -8;  // d = 1
  weights[4] = 7.4f;
  weights[5] = 8;  // as large, but later: code 15
  weights[6] = -0.5f;
  weights[7] = 0.5f;  // floor(9): halves go up
  row expected(32, 0.0f);
  expected[3] = -8, expected[4] = 7, expected[5] = 7, expected[7] = 1;
  CHECK(kept_by(klens::q4_0{}, weights) == expected);
  std::swap(weights[3], weights[5]);  // now +8 comes first: d = -1
  expected[3] = 8, expected[5] = -7, expected[4] = 7, expected[6] = -1, expected[7] = 0;
  CHECK(kept_by(klens::q4_0{}, weights) == expected);

  std::vector<std::byte> packed(18);
  klens::q4_0{}.pack(weights, packed);
  CHECK(packed[1] == std::byte{0xbc});      // -1 in fp16
  CHECK(packed[2 + 3] == std::byte{0x80});  // weight 3 in the lower half, weight 19 in the upper one
}

TEST_CASE("q8_0: by hand") {
  row weights(32, 0.0f);
  weights[0] = 127;  // d = 1
  weights[1] = 2.5f;
  weights[2] = -2.5f;  // halves go away from zero
  weights[3] = 0.49999997f;
  weights[31] = -126.6f;
  row expected(32, 0.0f);
  expected[0] = 127, expected[1] = 3, expected[2] = -3, expected[31] = -127;
  CHECK(kept_by(klens::q8_0{}, weights) == expected);
  std::vector<std::byte> packed(34);
  klens::q8_0{}.pack(weights, packed);
  CHECK(packed[1] == std::byte{0x3c});
  CHECK(packed[2 + 2] == std::byte{0xfd});
}

TEST_CASE("q4_0, q5_0 and q8_0: equal to the definition, bit for bit; what is packed comes back as the round trip") {
  for (const std::size_t length : {0, 32, 64, 96, 128, 320, 1024, 4096}) {
    std::size_t wrong = 0;
    for (std::uint64_t seed = 1; seed <= 10; ++seed)
      for (row weights : rows_of_all_kinds(length, seed)) {
        const auto check = [&](const auto& quantizer, int bits) {
          const row expected = reference::gguf(weights, bits).kept;
          wrong += same_bits(kept_by(quantizer, weights), expected) ? 0 : 1;
          std::vector<std::byte> packed(quantizer.bytes(length));
          quantizer.pack(weights, packed);
          row unpacked(length);
          quantizer.unpack(packed, unpacked);
          wrong += same_bits(unpacked, expected) ? 0 : 1;
          row in_place = weights;
          quantizer.round_trip(in_place, in_place);
          wrong += same_bits(in_place, expected) ? 0 : 1;
        };
        check(klens::q4_0{}, 4);
        check(klens::q5_0{}, 5);
        check(klens::q8_0{}, 8);
      }
    CHECK_MESSAGE(wrong == 0, "length " << length);
  }
}

TEST_CASE("q4_0 and q8_0: rows of whole blocks only") {
  static_assert(klens::q4_0::bytes(4096) == 4096 / 32 * 18 && klens::q8_0::bytes(64) == 68);
  static_assert(klens::q4_0::stores(64) && !klens::q4_0::stores(63) && klens::q8_0::stores(0));
  row weights(63), kept(63);
  std::vector<std::byte> packed(klens::q4_0::bytes(63));
  const char* const message = "q4_0: a row of 63 columns is no multiple of 32; use an int4 or int8 scheme for it";
  CHECK_THROWS_WITH_AS(klens::q4_0{}.round_trip(weights, kept), message, klens::argument_error);
  CHECK_THROWS_WITH_AS(klens::q4_0{}.pack(weights, packed), message, klens::argument_error);
  CHECK_THROWS_WITH_AS(klens::q4_0{}.unpack(packed, kept), message, klens::argument_error);
}

TEST_CASE("q4_0 and q8_0: weights that cannot be stored") {
  const float infinity = std::numeric_limits<float>::infinity();
  row weights(96, 1.0f), kept(96);
  for (const float bad : {std::nanf(""), -std::nanf(""), infinity, -infinity}) {
    weights[40] = bad;
    const std::string problem = ": the weight in column 40 is " + std::to_string(bad) + "; only finite weights can be stored";
    CHECK_THROWS_WITH_AS(klens::q4_0{}.round_trip(weights, kept), ("q4_0" + problem).c_str(), klens::numeric_error);
    CHECK_THROWS_WITH_AS(klens::q8_0{}.round_trip(weights, kept), ("q8_0" + problem).c_str(), klens::numeric_error);
  }
  weights[40] = 1e7f;
  CHECK_THROWS_WITH_AS(klens::q8_0{}.round_trip(weights, kept),
                       "q8_0: columns 32 to 63 need a scale of 78740.156250, and fp16 ends at 65504; use bf16",
                       klens::numeric_error);
}
