#include <klens/quant/nvfp4.hpp>

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

std::vector<std::byte> packed_by(const row& weights) {
  std::vector<std::byte> packed(klens::nvfp4::bytes(weights.size()));
  klens::nvfp4{}.pack(weights, packed);
  return packed;
}
row unpacked_by(const std::vector<std::byte>& packed, std::size_t columns) {
  row kept(columns);
  klens::nvfp4{}.unpack(packed, kept);
  return kept;
}

}  // namespace

TEST_CASE("nvfp4: by hand") {
  row weights(33, 0.0f);  // 2688 makes the row scale 1, and the scale of its block 448
  weights[0] = 2688, weights[1] = -224, weights[2] = 112, weights[3] = -0.0f;
  weights[16] = 6.75f, weights[17] = -0.75f;  // 1.125 is a number of E4M3; 6.75 / 1.125 is 6
  weights[18] = 0.28125f;                     // a quarter: to 0
  row expected(33, 0.0f);
  expected[0] = 2688, expected[1] = -224, expected[3] = -0.0f;
  expected[16] = 6.75f, expected[17] = -0.5625f;  // -0.67 is nearer to -0.5
  CHECK(same_bits(kept_by(klens::nvfp4{}, weights), expected));

  const std::vector<std::byte> packed = packed_by(weights);
  REQUIRE(packed.size() == 17 + 3 + 4);
  CHECK(packed[0] == std::byte{0x97});  // 6 in the lower half, -0.5 in the upper one
  CHECK(packed[17] == std::byte{0x7e});
  CHECK(packed[18] == std::byte{0x39});
  CHECK(packed[19] == std::byte{0x38});  // a block of zeros: 1
  CHECK(packed[22] == std::byte{0x80});
  CHECK(packed[23] == std::byte{0x3f});  // 1.0f
  CHECK(same_bits(unpacked_by(packed, 33), expected));
  static_assert(klens::nvfp4::bytes(0) == 0 && klens::nvfp4::bytes(64) == 40);
}

TEST_CASE("nvfp4: a scale that is rounded down saturates its block") {
  row weights(32, 0.0f);
  weights[0] = 2688;
  weights[16] = 6.3f;  // 1.05 is rounded to 1, so 6.3 is 6 at most
  CHECK(kept_by(klens::nvfp4{}, weights)[16] == 6);
}

TEST_CASE("nvfp4: zeros, and scales that vanish") {
  CHECK(same_bits(kept_by(klens::nvfp4{}, row(20, 0.0f)), row(20, 0.0f)));
  std::vector<std::byte> zeros(16);
  zeros[10] = zeros[11] = std::byte{0x38};
  CHECK(packed_by(row(20, 0.0f)) == zeros);
  CHECK(kept_by(klens::nvfp4{}, row{1e-43f, 0}) == row{0, 0});  // divided by 2688 it is less than the least float
  row weights(32, 0.0f);
  weights[0] = 2688;
  weights[16] = 6 * 0x1p-9f;  // the least number of E4M3
  weights[17] = 0x1p-9f;
  CHECK(kept_by(klens::nvfp4{}, weights) == weights);
  weights[16] = weights[17] = 6 * 0x1p-10f;  // half of it: to 0
  const row kept = kept_by(klens::nvfp4{}, weights);
  CHECK(kept[0] == 2688);
  CHECK(kept[16] == 0);
  const std::vector<std::byte> packed = packed_by(weights);
  CHECK(packed[8] == std::byte{0});
  CHECK(packed[17] == std::byte{0});
}

TEST_CASE("nvfp4: what is packed comes back as the round trip, for any length and in place") {
  for (const std::size_t length : {0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 100, 1023, 5000}) {
    std::size_t wrong = 0;
    for (row weights : rows_of_all_kinds(length, length + 1)) {
      const row kept = kept_by(klens::nvfp4{}, weights);
      wrong += same_bits(unpacked_by(packed_by(weights), length), kept) ? 0 : 1;
      klens::nvfp4{}.round_trip(weights, weights);
      wrong += same_bits(weights, kept) ? 0 : 1;
    }
    CHECK_MESSAGE(wrong == 0, "length " << length);
  }
}

TEST_CASE("nvfp4: weights that cannot be stored") {
  row weights(70, 1.0f), kept(70);
  std::vector<std::byte> packed(klens::nvfp4::bytes(70));
  for (const float bad : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY}) {
    weights[66] = bad;
    const std::string message =
        "nvfp4: the weight in column 66 is " + std::to_string(bad) + "; only finite weights can be stored";
    CHECK_THROWS_WITH_AS(klens::nvfp4{}.round_trip(weights, kept), message.c_str(), klens::numeric_error);
    CHECK_THROWS_WITH_AS(klens::nvfp4{}.pack(weights, packed), message.c_str(), klens::numeric_error);
  }
  weights[66] = std::numeric_limits<float>::max();
  CHECK_THROWS_WITH_AS(klens::nvfp4{}.round_trip(weights, kept), doctest::Contains("nvfp4: columns 64 to 69 need a scale of "),
                       klens::numeric_error);
  weights[66] = 0x1.ffffp127f;
  CHECK(std::isfinite(kept_by(klens::nvfp4{}, weights)[66]));
  CHECK_THROWS_AS(klens::nvfp4{}.round_trip(row(3), kept), klens::shape_error);
}
