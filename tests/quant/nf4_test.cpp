#include <klens/quant/nf4.hpp>

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

std::vector<std::byte> packed_by(const klens::nf4& quantizer, const row& weights) {
  std::vector<std::byte> packed(quantizer.bytes(weights.size()));
  quantizer.pack(weights, packed);
  return packed;
}
row unpacked_by(const klens::nf4& quantizer, const std::vector<std::byte>& packed, std::size_t columns) {
  row kept(columns);
  quantizer.unpack(packed, kept);
  return kept;
}

// As in bitsandbytes: create_quantized_map("nf4"), and the bounds of dQuantizeNF4.
const row values{-1.0f,
                 -0.6961928009986877f,
                 -0.5250730514526367f,
                 -0.39491748809814453f,
                 -0.28444138169288635f,
                 -0.18477343022823334f,
                 -0.09105003625154495f,
                 0.0f,
                 0.07958029955625534f,
                 0.16093020141124725f,
                 0.24611230194568634f,
                 0.33791524171829224f,
                 0.44070982933044434f,
                 0.5626170039176941f,
                 0.7229568362236023f,
                 1.0f};
const row bounds{-0.8480964004993439f,  -0.6106329262256622f,  -0.4599952697753906f,   -0.33967943489551544f,
                 -0.23460740596055984f, -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f,
                 0.1202552504837513f,   0.2035212516784668f,   0.2920137718319893f,    0.3893125355243683f,
                 0.5016634166240692f,   0.6427869200706482f,   0.8614784181118011f};

row defined(const row& weights, std::size_t group_size) {
  row kept(weights.size());
  for (std::size_t first = 0; first < weights.size(); first += group_size) {
    const std::size_t end = std::min(weights.size(), first + group_size);
    float largest = 0;
    for (std::size_t i = first; i < end; ++i) largest = std::max(largest, std::abs(weights[i]));
    const float inverse = 1.0f / std::max(largest, 1e-38f);
    for (std::size_t i = first; i < end; ++i) {
      const float x = weights[i] * inverse;
      std::size_t code = 0;
      while (code < 15 && x > bounds[code]) ++code;
      kept[i] = values[code] * largest;
    }
  }
  return kept;
}

}  // namespace

TEST_CASE("nf4: its values are fixed points, and bounds belong to the value below") {
  CHECK(same_bits(kept_by(klens::nf4{16}, values), values));
  for (std::size_t i = 0; i < 15; ++i) {
    const row weights{1.0f, bounds[i], std::nextafter(bounds[i], INFINITY)};
    CHECK(same_bits(kept_by(klens::nf4{}, weights), {1.0f, values[i], values[i + 1]}));
  }
}

TEST_CASE("nf4: bytes by hand, the first code in the upper half") {
  const klens::nf4 pairs{.group_size = 2};
  CHECK(packed_by(pairs, {-2, 0, 0.5f}) == std::vector{std::byte{0x07}, std::byte{0xf0},                             // -1, 0; 1
                                                       std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0x40},    // 2
                                                       std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0x3f}});  // 0.5
  CHECK(klens::nf4{.group_size = 64}.bytes(4096) == 2048 + 256);
  CHECK(klens::nf4{.group_size = 64}.bytes(65) == 33 + 8);
  CHECK(klens::nf4{.group_size = 0}.bytes(65) == 33 + 4);
  CHECK(klens::nf4{}.bytes(0) == 0);
}

TEST_CASE("nf4: equal to the definition, bit for bit; what is packed comes back as the round trip") {
  for (const std::size_t length : {0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 100, 1023, 5000})
    for (const std::size_t group_size : {0, 1, 9, 48, 64}) {
      const klens::nf4 quantizer{group_size};
      std::size_t wrong = 0;
      for (row weights : rows_of_all_kinds(length, length + group_size)) {
        const row expected = defined(weights, group_size == 0 ? std::max<std::size_t>(length, 1) : group_size);
        wrong += same_bits(kept_by(quantizer, weights), expected) ? 0 : 1;
        wrong += same_bits(unpacked_by(quantizer, packed_by(quantizer, weights), length), expected) ? 0 : 1;
        quantizer.round_trip(weights, weights);
        wrong += same_bits(weights, expected) ? 0 : 1;
      }
      CHECK_MESSAGE(wrong == 0, "length " << length << ", groups of " << group_size);
    }
}

TEST_CASE("nf4: zeros, subnormal scales, the ends of float") {
  CHECK(same_bits(kept_by(klens::nf4{}, {0.0f, -0.0f, 0.0f}), {0, 0, 0}));
  CHECK(packed_by(klens::nf4{}, {0, 0}) ==
        std::vector{std::byte{0x77}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}});
  const float most = std::numeric_limits<float>::max();
  CHECK(kept_by(klens::nf4{}, row{most, -most, 1}) == row{most, -most, 0});
  CHECK(kept_by(klens::nf4{}, row{1e-38f, -1e-38f}) == row{1e-38f, -1e-38f});
  CHECK(kept_by(klens::nf4{}, row{2e-41f, 0}) == row{0, 0});  // 0.002 of 1e-38: nearest to 0
}

TEST_CASE("nf4: names") {
  CHECK(klens::nf4::from_name("nf4-g64")->group_size == 64);
  CHECK(klens::nf4::from_name("nf4-channel")->group_size == 0);
  CHECK(klens::nf4{.group_size = 48}.name() == "nf4-g48");
  for (const char* const name : {"nf4", "nf4-", "nf4-g", "nf4-g0", "nf4-g064", "nf4-g64-f32", "nf4-signed-g64", "nf4g64"})
    CHECK_FALSE(klens::nf4::from_name(name));
}

TEST_CASE("nf4: weights that are not finite") {
  row weights(70, 1.0f), kept(70);
  std::vector<std::byte> packed(klens::nf4{}.bytes(70));
  for (const float bad : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY}) {
    weights[66] = bad;
    const std::string message =
        "nf4-g64: the weight in column 66 is " + std::to_string(bad) + "; only finite weights can be stored";
    CHECK_THROWS_WITH_AS(klens::nf4{}.round_trip(weights, kept), message.c_str(), klens::numeric_error);
    CHECK_THROWS_WITH_AS(klens::nf4{}.pack(weights, packed), message.c_str(), klens::numeric_error);
  }
  CHECK_THROWS_AS(klens::nf4{}.round_trip(row(3), kept), klens::shape_error);
}
