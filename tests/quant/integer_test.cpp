#include <klens/quant/integer.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <klens/error.hpp>
#include <limits>
#include <numeric>
#include <string>
#include <support/lengths.hpp>
#include <support/near.hpp>
#include <support/quantized_row.hpp>
#include <support/reference_quantizers.hpp>
#include <vector>

namespace {

using support::kept_by;
using support::row;
using support::same_bits;

template <class Quantizer>
std::vector<int> packed_by(const Quantizer& quantizer, const row& weights) {
  std::vector<std::byte> packed(quantizer.bytes(weights.size()));
  quantizer.pack(weights, packed);
  std::vector<int> numbers;
  for (const std::byte each : packed) numbers.push_back(std::to_integer<int>(each));
  return numbers;
}

template <int Bits, klens::grid Grid>
void expect_reference(reference::grid where) {
  std::vector<std::size_t> lengths = awkward_lengths();
  for (const std::size_t more : {0, 1023, 4096}) lengths.push_back(more);
  for (const std::size_t group_size : {0, 1, 7, 32, 64, 128}) {
    const klens::integer<Bits, Grid> fp16{group_size}, f32{group_size, klens::scale_kind::f32};
    INFO(fp16.name());
    for (const std::size_t length : lengths) {
      std::size_t wrong = 0;
      for (const row& weights : rows_of_all_kinds(length, length)) {
        const auto in_fp16 = reference::integer(weights, Bits, where, group_size, true);
        if (std::all_of(in_fp16.scales.begin(), in_fp16.scales.end(), [](float s) { return std::isfinite(s); }))
          wrong += same_bits(kept_by(fp16, weights), in_fp16.kept) ? 0 : 1;
        wrong += same_bits(kept_by(f32, weights), reference::integer(weights, Bits, where, group_size, false).kept) ? 0 : 1;
      }
      CHECK_MESSAGE(wrong == 0, "length " << length);
    }
  }
}

template <class Quantizer>
struct parameters;
template <int Bits, klens::grid Grid>
struct parameters<klens::integer<Bits, Grid>> {
  static constexpr int half = 1 << (Bits - 1);
  static constexpr klens::grid where = Grid;
};

const float largest = std::numeric_limits<float>::max();
const float infinity = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("int4: the fifteen codes are fixed points") {
  const row weights{-7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
  CHECK(kept_by(klens::int4{}, weights) == weights);
  CHECK(kept_by(klens::int4{.scale = klens::scale_kind::f32}, weights) == weights);
}

TEST_CASE("integer: by hand") {
  SUBCASE("absmax: scale 7 / 7, halves to even") {
    CHECK(kept_by(klens::int4{}, {7, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -6.6f, 0.49f}) == row{7, 0, 2, 2, 0, -2, -7, 0});
  }
  SUBCASE("signed: the weight of largest magnitude becomes -8, whatever its sign; its mirror image does not fit") {
    CHECK(kept_by(klens::int4_signed{}, {4, -3.9f, 0.6f, 0}) == row{4, -3.5f, 0.5f, -0.0f});
    CHECK(kept_by(klens::int4_signed{}, {-4, 3.9f, 0.6f, 0}) == row{-4, 3.5f, 0.5f, 0});
    CHECK(kept_by(klens::int4_signed{}, {4, -4}) == row{3.5f, -4});  // of +m and -m, -m counts
  }
  SUBCASE("asym: 0 to 15, scale 1, zero point 5") {
    CHECK(kept_by(klens::int4_asym{}, {-5, 10, 0.4f, -2.5f, 3.5f, -7e-3f}) ==
          row{-5, 10, 0, -3, 3, 0});                                     // codes 2.5 and 8.5 are ties
    CHECK(kept_by(klens::int4_asym{}, {1, 15, 7.3f}) == row{1, 15, 7});  // the range always reaches to 0
    CHECK(kept_by(klens::int4_asym{}, {-1, -15, -7.3f}) == row{-1, -15, -7});
  }
  SUBCASE("the codes come from the float scale, the values from the scale in fp16") {
    const float exact = 1.0f / 7, in_fp16 = 1170.0f / 8192;  // the fp16 next to 1/7
    CHECK(kept_by(klens::int4{}, {1, exact, -3 * exact}) == row{7 * in_fp16, in_fp16, -3 * in_fp16});
    CHECK(kept_by(klens::int4{.scale = klens::scale_kind::f32}, {1, exact}) == row{7 * exact, exact});
  }
}

TEST_CASE("integer: the stored row, byte by byte") {
  SUBCASE("int4: the first of two codes is the lower half; then the scale, 1 in fp16") {
    CHECK(packed_by(klens::int4{}, {7, -7, 1}) == std::vector{0x97, 0x01, 0x00, 0x3c});
  }
  SUBCASE("float scales of two groups") {
    CHECK(packed_by(klens::int4{.group_size = 2, .scale = klens::scale_kind::f32}, {7, -7, 14}) ==
          std::vector{0x97, 0x07, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40});
  }
  SUBCASE("int3: a stream of bits, from the lowest up, in two's complement") {
    // 3, -3, 1, -1, 0, 2, read from the right: 010 000 111 001 101 011
    CHECK(packed_by(klens::int3{}, {3, -3, 1, -1, 0, 2}) == std::vector{0b01101011, 0b00001110, 0b01, 0, 0x3c});
  }
  SUBCASE("asym: unsigned codes, scales, then the zero points, of as many bits as the codes") {
    CHECK(packed_by(klens::int4_asym{.group_size = 2}, {-5, 10, 15, 0, -15}) ==
          std::vector{0xf0, 0x0f, 0x00, 0x00, 0x3c, 0x00, 0x3c, 0x00, 0x3c, 0x05, 0x0f});
  }
  SUBCASE("signed: a negative scale") {
    CHECK(packed_by(klens::int8_signed{}, {128, 0, -127}) == std::vector{0x80, 0, 127, 0x00, 0xbc});
  }
}

TEST_CASE("integer: sizes count codes, scales, zero points and padding") {
  CHECK(klens::int4{.group_size = 32}.bytes(4096) * 8 == 4096 * 9 / 2);  // 4.5 bits a weight
  CHECK(klens::int4{}.bytes(4096) == 2048 + 2);
  CHECK(klens::int4{}.bytes(5) == 3 + 2);
  CHECK(klens::int4{.group_size = 4}.bytes(5) == 3 + 4);
  CHECK(klens::int4{.group_size = 8, .scale = klens::scale_kind::f32}.bytes(5) == 3 + 4);
  CHECK(klens::int4_asym{.group_size = 32}.bytes(96) == 48 + 6 + 2);
  CHECK(klens::integer<3, klens::grid::asym>{.group_size = 16}.bytes(50) == 19 + 8 + 2);
  CHECK(klens::int8{}.bytes(10) == 12);
  CHECK(klens::int8{}.bytes(0) == 0);
}

TEST_CASE("integer: equal to the definition, bit for bit, at every length and for every width") {
  SUBCASE("absmax") {
    expect_reference<2, klens::grid::absmax>(reference::grid::absmax);
    expect_reference<3, klens::grid::absmax>(reference::grid::absmax);
    expect_reference<4, klens::grid::absmax>(reference::grid::absmax);
    expect_reference<5, klens::grid::absmax>(reference::grid::absmax);
    expect_reference<6, klens::grid::absmax>(reference::grid::absmax);
    expect_reference<7, klens::grid::absmax>(reference::grid::absmax);
    expect_reference<8, klens::grid::absmax>(reference::grid::absmax);
  }
  SUBCASE("signed") {
    expect_reference<2, klens::grid::signed_>(reference::grid::signed_);
    expect_reference<4, klens::grid::signed_>(reference::grid::signed_);
    expect_reference<5, klens::grid::signed_>(reference::grid::signed_);
    expect_reference<8, klens::grid::signed_>(reference::grid::signed_);
  }
  SUBCASE("asym") {
    expect_reference<2, klens::grid::asym>(reference::grid::asym);
    expect_reference<4, klens::grid::asym>(reference::grid::asym);
    expect_reference<7, klens::grid::asym>(reference::grid::asym);
    expect_reference<8, klens::grid::asym>(reference::grid::asym);
  }
}

TEST_CASE("integer: quotients that the inverse alone would round to the wrong side") {
  // Halves of the scale and their neighbours, for scales of many significands: the only places where a shortcut can go wrong.
  splitmix random{11};
  std::size_t wrong = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    const auto scale = static_cast<float>(1 + random.uniform());
    row weights{127 * scale};
    for (int code = -126; code <= 126; ++code) {
      const float half = (static_cast<float>(code) + 0.5f) * scale;
      weights.insert(weights.end(), {half, std::nextafter(half, infinity), std::nextafter(half, -infinity)});
    }
    const klens::int8 absmax{.scale = klens::scale_kind::f32};
    const klens::int8_asym asym{.scale = klens::scale_kind::f32};
    wrong += kept_by(absmax, weights) == reference::integer(weights, 8, reference::grid::absmax, 0, false).kept ? 0 : 1;
    wrong += kept_by(asym, weights) == reference::integer(weights, 8, reference::grid::asym, 0, false).kept ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("integer: what is packed comes back as the round trip", Quantizer, klens::int2, klens::int3, klens::int4,
                   klens::int5, klens::int6, klens::integer<7>, klens::int8, klens::int4_signed, klens::int8_signed,
                   klens::int4_asym, klens::int8_asym, klens::integer<3, klens::grid::asym>,
                   klens::integer<5, klens::grid::signed_>) {
  std::vector<std::size_t> lengths = awkward_lengths();
  for (const std::size_t more : {0, 1023, 4096}) lengths.push_back(more);
  for (const klens::scale_kind scale : {klens::scale_kind::f16, klens::scale_kind::f32})
    for (const std::size_t group_size : {0, 1, 3, 32, 64, 100}) {
      const Quantizer quantizer{group_size, scale};
      INFO(quantizer.name());
      for (const std::size_t length : lengths) {
        std::size_t wrong = 0;
        for (row weights : rows_of_all_kinds(length, length + 1)) {
          for (float& w : weights) w = std::clamp(w, -60000.0f, 60000.0f);
          std::vector<std::byte> packed(quantizer.bytes(length) + 1, std::byte{0xa5});
          quantizer.pack(weights, std::span(packed).first(packed.size() - 1));
          row unpacked(length);
          quantizer.unpack(std::span(packed).first(packed.size() - 1), unpacked);
          wrong += same_bits(unpacked, kept_by(quantizer, weights)) && packed.back() == std::byte{0xa5} ? 0 : 1;
        }
        CHECK_MESSAGE(wrong == 0, "length " << length);
      }
    }
}

TEST_CASE_TEMPLATE("integer: laws", Quantizer, klens::int4, klens::int8, klens::int4_signed, klens::int4_asym,
                   klens::int8_asym) {
  splitmix random{5};
  row weights(200);
  for (float& w : weights) w = random.bell();
  const Quantizer quantizer{.group_size = 48};
  const row kept = kept_by(quantizer, weights);

  SUBCASE("a group ignores its neighbours") {
    row changed = weights;
    for (std::size_t i = 48; i < 96; ++i) changed[i] *= 100;
    const row other = kept_by(quantizer, changed);
    for (std::size_t i = 0; i < 200; ++i)
      if (i < 48 || i >= 96) CHECK(other[i] == kept[i]);
  }
  SUBCASE("a group of more columns than the row is the row") {
    CHECK(kept_by(Quantizer{.group_size = 1000}, weights) == kept_by(Quantizer{}, weights));
    CHECK(packed_by(Quantizer{.group_size = 1000}, weights) == packed_by(Quantizer{}, weights));
  }
  SUBCASE("no weight moves by more than half a step, and the rounding of its scale") {
    for (const klens::scale_kind scale : {klens::scale_kind::f16, klens::scale_kind::f32}) {
      const row by_row = kept_by(Quantizer{0, scale}, weights);
      const auto [least, most] = std::minmax_element(weights.begin(), weights.end());
      const double reach = std::max(-*least, *most), range = *most - *least;
      constexpr int half = parameters<Quantizer>::half;
      constexpr klens::grid where = parameters<Quantizer>::where;
      const double step = where == klens::grid::absmax ? reach / (half - 1)
                          : where == klens::grid::asym ? range / (2 * half - 1)
                                                       : reach / half;
      // The largest code times the rounding of the scale (2^-11 in fp16); signed cannot reach the mirror image of its end.
      const double rounding = 2.0 * half * step * (scale == klens::scale_kind::f16 ? 0x1p-11 : 0x1p-22);
      const double slack = where == klens::grid::absmax ? 0.5 : 1.0;
      for (std::size_t i = 0; i < 200; ++i) CHECK(std::abs(by_row[i] - weights[i]) <= slack * step + rounding);
    }
  }
  SUBCASE("in place") {
    row same = weights;
    quantizer.round_trip(same, same);
    CHECK(same_bits(same, kept));
  }
  SUBCASE("at addresses of any alignment") {
    for (std::size_t shift = 0; shift < 17; ++shift) {
      row from(217), to(217, 9);
      std::copy(weights.begin(), weights.end(), from.begin() + static_cast<std::ptrdiff_t>(shift));
      quantizer.round_trip(std::span(from).subspan(shift, 200), std::span(to).subspan(16 - shift, 200));
      CHECK(std::equal(kept.begin(), kept.end(), to.begin() + static_cast<std::ptrdiff_t>(16 - shift)));
      CHECK(std::count(to.begin(), to.end(), 9.0f) == 17);
    }
  }
}

TEST_CASE("integer: with float scales of powers of two a second round trip changes nothing") {
  splitmix random{6};
  row weights(256);
  for (float& w : weights) w = random.bell();
  for (std::size_t i = 0; i < 256; i += 32) weights[i] = -2;  // scale 2 / 8: exact in fp16, and the largest code stays
  const klens::int4_signed quantizer{.group_size = 32};
  const row once = kept_by(quantizer, weights);
  CHECK(kept_by(quantizer, once) == once);
  row again(256);
  CHECK(quantizer.round_trip(once, again).squared_error == 0);  // exactly: the products are rounded before they are compared
}

TEST_CASE("integer: zeros stay zeros, and so does what a scale cannot express") {
  const auto is_zero = [](float w) { return w == 0; };
  const row zeros(70, 0.0f), minus(70, -0.0f);
  row tiny(70);
  for (std::size_t i = 0; i < 70; ++i) tiny[i] = 1.401298464e-45f * static_cast<float>(static_cast<int>(i % 5) - 2);
  for (const row& weights : {zeros, minus, tiny}) {
    for (const std::size_t group_size : {0, 32}) {
      const row absmax = kept_by(klens::int4{group_size}, weights), asym = kept_by(klens::int4_asym{group_size}, weights);
      CHECK(std::all_of(absmax.begin(), absmax.end(), is_zero));
      CHECK(std::all_of(asym.begin(), asym.end(), is_zero));
    }
  }
  // The float scale rounds to 0 in fp16: 1e-8 / 7 is below half of 2^-24.
  CHECK(kept_by(klens::int4{}, {1e-8f, -1e-8f}) == row{0, 0});
  CHECK(kept_by(klens::int4{.scale = klens::scale_kind::f32}, {7e-30f, -1e-30f}) == row{7e-30f, -1e-30f});
  CHECK(kept_by(klens::int4{}, {}).empty());
}

TEST_CASE("integer: the error of a round trip comes with it") {
  for (const float size : {1.0f, 1e-8f, 1e-20f, 1e-39f, 1e15f, 1e30f}) {
    INFO("weights of about " << size);
    for (const std::size_t length : {1, 31, 512, 5000}) {
      splitmix random{length};
      row weights(length), kept(length);
      for (float& w : weights) w = size * random.bell();
      const klens::weight_error error =
          klens::int8{.group_size = 64, .scale = klens::scale_kind::f32}.round_trip(weights, kept);
      long double energy = 0, squared_error = 0;
      for (std::size_t i = 0; i < length; ++i) {
        energy += static_cast<long double>(weights[i]) * weights[i];
        squared_error += std::pow(static_cast<long double>(kept[i]) - weights[i], 2);
      }
      CHECK(error.energy == near{energy, 2e-5});
      // Beside the sums' own rounding: a difference is a float, rounded to 2^-24 of it.
      CHECK(error.squared_error == near{squared_error, 2e-5});
    }
  }
  row kept(3);
  const klens::weight_error none = klens::int4{}.round_trip(row{7, -3, 0}, kept);
  CHECK(none.energy == 58);
  CHECK(none.squared_error == 0);
  CHECK(klens::sqnr_db(none) == infinity);
  CHECK(klens::sqnr_db({100, 1}) == 20);
}

TEST_CASE("integer: weights that cannot be stored") {
  row kept(100);
  row weights(100, 0.5f);
  const auto message = [&](const auto& quantizer) -> std::string {
    try {
      quantizer.round_trip(weights, kept);
    } catch (const klens::numeric_error& problem) {
      std::vector<std::byte> packed(quantizer.bytes(weights.size()));
      CHECK_THROWS_WITH_AS(quantizer.pack(weights, packed), problem.what(), klens::numeric_error);
      return problem.what();
    }
    return "";
  };
  for (const float bad : {std::nanf(""), -std::nanf(""), infinity, -infinity})
    for (const std::size_t column : {0, 41, 63, 64, 99}) {
      weights.assign(100, 0.5f);
      weights[column] = bad;
      const std::string expected = "the weight in column " + std::to_string(column) + " is " + std::to_string(bad);
      CHECK(message(klens::int4{}).find(expected) != std::string::npos);
      CHECK(message(klens::int8{.group_size = 32}).find(expected) != std::string::npos);
      CHECK(message(klens::int4_signed{.group_size = 64}).find(expected) != std::string::npos);
      CHECK(message(klens::int4_asym{.group_size = 1}).find(expected) != std::string::npos);
      CHECK(message(klens::int8_asym{.scale = klens::scale_kind::f32}).find(expected) != std::string::npos);
    }
  weights.assign(100, 0.5f);
  weights[70] = 7 * 65520.0f;  // the first scale that rounds to infinity
  CHECK(message(klens::int4{.group_size = 32}) ==
        "int4-g32: columns 64 to 95 need a scale of 65520.000000, and fp16 ends at 65504; store it in float: int4-g32-f32");
  CHECK(message(klens::int4{.group_size = 32, .scale = klens::scale_kind::f32}).empty());
  weights[70] = std::nextafter(7 * 65520.0f, 0.0f);
  CHECK(message(klens::int4{.group_size = 32}).empty());
  CHECK(kept[70] == 7 * 65504.0f);

  for (const float end : {largest, -largest}) {  // nothing that is kept is infinite
    weights[3] = end;
    CHECK(message(klens::int8{.scale = klens::scale_kind::f32}).find("range of float; use bf16") != std::string::npos);
  }
  weights[4] = largest;  // -largest is there, too: their distance is no float
  CHECK(message(klens::int8_asym{.scale = klens::scale_kind::f32}).find("need a scale of inf") != std::string::npos);
}

TEST_CASE("integer: lengths that do not fit") {
  row weights(10), kept(9);
  std::vector<std::byte> packed(8);
  CHECK_THROWS_WITH_AS(klens::int4{}.round_trip(weights, kept), "int4-channel: kept has a length of 9, this row needs 10",
                       klens::shape_error);
  CHECK_THROWS_WITH_AS(klens::int4{}.pack(weights, packed), "int4-channel: packed has a length of 8, this row needs 7",
                       klens::shape_error);
  CHECK_THROWS_AS(klens::int4{}.unpack(packed, weights), klens::shape_error);
}

TEST_CASE("integer: names") {
  CHECK(klens::int4{}.name() == "int4-channel");
  CHECK(klens::int8{.group_size = 64}.name() == "int8-g64");
  CHECK(klens::int4_signed{.group_size = 32}.name() == "int4-signed-g32");
  CHECK(klens::int4_asym{.group_size = 128}.name() == "int4-asym-g128");
  CHECK(klens::int4{.scale = klens::scale_kind::f32}.name() == "int4-channel-f32");
  CHECK(klens::int3{}.name() == "int3-channel");
}
