#include <klens/quant/mxfp4.hpp>

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
  std::vector<std::byte> packed(klens::mxfp4::bytes(weights.size()));
  klens::mxfp4{}.pack(weights, packed);
  return packed;
}
row unpacked_by(const std::vector<std::byte>& packed, std::size_t columns) {
  row kept(columns);
  klens::mxfp4{}.unpack(packed, kept);
  return kept;
}

/// The definition, one weight after the other, in double: the nearest of the eight values, of equally near ones the even code.
row defined(const row& weights) {
  static constexpr double values[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  row kept(weights.size());
  for (std::size_t first = 0; first < weights.size(); first += 32) {
    const std::size_t end = std::min(weights.size(), first + 32);
    double largest = 0;
    for (std::size_t i = first; i < end; ++i) largest = std::max(largest, std::abs(static_cast<double>(weights[i])));
    const int exponent = largest == 0 ? -127 : std::max(std::ilogb(largest) - 2, -127);
    for (std::size_t i = first; i < end; ++i) {
      const double magnitude = std::ldexp(std::abs(static_cast<double>(weights[i])), -exponent);
      int best = 0;
      for (int code = 1; code < 8; ++code) {
        const double nearer = std::abs(magnitude - values[best]) - std::abs(magnitude - values[code]);
        if (nearer > 0 || (nearer == 0 && code % 2 == 0)) best = code;
      }
      kept[i] = static_cast<float>(std::copysign(std::ldexp(values[best], exponent), weights[i]));
    }
  }
  return kept;
}

}  // namespace

TEST_CASE("mxfp4: by hand") {
  // The largest is 6: scale 1. Ties go to the even code.
  const row weights{6, 0.25f, -0.75f, 1.25f, 1.75f, 2.5f, -3.5f, 5, 0.26f, 0.74f, 5.1f, -0.0f, -0.2f};
  const row expected{6, 0, -1, 1, 2, 2, -4, 4, 0.5f, 0.5f, 6, -0.0f, -0.0f};
  CHECK(same_bits(kept_by(klens::mxfp4{}, weights), expected));
  const std::vector<std::byte> packed = packed_by(weights);
  REQUIRE(packed.size() == 8);
  CHECK(packed[0] == std::byte{0x07});                           // 6 in the lower half, 0 in the upper one
  CHECK(packed[1] == std::byte{0x2a});                           // -1, 1
  CHECK(packed[6] == std::byte{0x08});                           // -0, and nothing behind it
  CHECK(packed[7] == std::byte{127});                            // 2^0
  CHECK(same_bits(kept_by(klens::mxfp4{}, {7.9f, 1}), {6, 1}));  // saturated: 8 would have another scale
  CHECK(same_bits(kept_by(klens::mxfp4{}, {8, 1}), {8, 1}));     // 4 times 2
  static_assert(klens::mxfp4::bytes(0) == 0 && klens::mxfp4::bytes(64) == 34 && klens::mxfp4::bytes(33) == 19);
}

TEST_CASE("mxfp4: a block ignores its neighbour, and the last may be shorter") {
  row weights(35, 0.0f);
  weights[31] = 1000;
  weights[32] = 1, weights[33] = 0.3f, weights[34] = -1;
  const row kept = kept_by(klens::mxfp4{}, weights);
  CHECK(kept[31] == 768);  // 7.8 times 128 is 6 times 128
  CHECK(kept[32] == 1);
  CHECK(kept[33] == 0.25f);
  CHECK(packed_by(weights)[18] == std::byte{127 + 7});
  CHECK(packed_by(weights)[19] == std::byte{127 - 2});
}

TEST_CASE("mxfp4: the ends of float and of the scale") {
  const float most = std::numeric_limits<float>::max(), step = std::numeric_limits<float>::denorm_min();
  CHECK(kept_by(klens::mxfp4{}, row{most, -most, 1}) == row{0x1.8p127f, -0x1.8p127f, 0});
  CHECK(packed_by({most})[1] == std::byte{127 + 125});
  CHECK(kept_by(klens::mxfp4{}, row{0x1p-125f, 0x1p-127f}) == row{0x1p-125f, 0x1p-127f});  // 4 and 1 times 2^-127
  CHECK(packed_by({0x1p-125f})[1] == std::byte{0});
  CHECK(kept_by(klens::mxfp4{}, row{0x1p-128f, 0x1p-129f, step}) ==
        row{0x1p-128f, 0, 0});  // half, a quarter of the least scale
  CHECK(packed_by(row(32, 0.0f)) == std::vector<std::byte>(17));
  CHECK(same_bits(kept_by(klens::mxfp4{}, row(40, 0.0f)), row(40, 0.0f)));
  std::vector<std::byte> not_a_number = packed_by({1, 0});
  not_a_number[1] = std::byte{255};
  CHECK(std::isnan(unpacked_by(not_a_number, 2)[0]));
}

TEST_CASE("mxfp4: equal to the definition, bit for bit; what is packed comes back as the round trip") {
  for (const std::size_t length : {0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 100, 1023, 5000}) {
    std::size_t wrong = 0;
    for (std::uint64_t seed = 1; seed <= 5; ++seed)
      for (row weights : rows_of_all_kinds(length, seed)) {
        const row expected = defined(weights);
        wrong += same_bits(kept_by(klens::mxfp4{}, weights), expected) ? 0 : 1;
        wrong += same_bits(unpacked_by(packed_by(weights), length), expected) ? 0 : 1;
        klens::mxfp4{}.round_trip(weights, weights);
        wrong += same_bits(weights, expected) ? 0 : 1;
      }
    CHECK_MESSAGE(wrong == 0, "length " << length);
  }
}

TEST_CASE("mxfp4: weights that are not finite") {
  row weights(70, 1.0f), kept(70);
  std::vector<std::byte> packed(klens::mxfp4::bytes(70));
  for (const float bad : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY}) {
    weights[66] = bad;
    const std::string message =
        "mxfp4: the weight in column 66 is " + std::to_string(bad) + "; only finite weights can be stored";
    CHECK_THROWS_WITH_AS(klens::mxfp4{}.round_trip(weights, kept), message.c_str(), klens::numeric_error);
    CHECK_THROWS_WITH_AS(klens::mxfp4{}.pack(weights, packed), message.c_str(), klens::numeric_error);
  }
  CHECK_THROWS_AS(klens::mxfp4{}.round_trip(row(3), kept), klens::shape_error);
}
