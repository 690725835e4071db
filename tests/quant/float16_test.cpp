#include <klens/quant/float16.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <klens/error.hpp>
#include <klens/quant/float32.hpp>
#include <limits>
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
row unpacked_by(const Quantizer& quantizer, const row& weights) {
  std::vector<std::byte> packed(quantizer.bytes(weights.size()));
  quantizer.pack(weights, packed);
  row kept(weights.size());
  quantizer.unpack(packed, kept);
  return kept;
}

const float infinity = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("fp16: every number of fp16, the halves between them and what lies next to those") {
  row weights, expected;
  for (int bits = 0; bits < 0x7c00; ++bits) {
    const auto number =
        static_cast<float>(bits < 0x400 ? std::ldexp(bits, -24) : std::ldexp(1024 + bits % 1024, bits / 1024 - 25));
    const auto next =
        bits + 1 < 0x400 ? std::ldexp(bits + 1, -24) : std::ldexp(1024 + (bits + 1) % 1024, (bits + 1) / 1024 - 25);
    const auto half_way = static_cast<float>((number + next) / 2);  // a float: fp16 has 13 bits less
    for (const float w : {number, std::nextafter(half_way, 0.0f), half_way, std::nextafter(half_way, infinity)}) {
      if (w >= 65520) continue;
      weights.insert(weights.end(), {w, -w});
      const auto upper = static_cast<float>(next);
      const float nearest = w < half_way || (w == half_way && bits % 2 == 0) ? number : upper;
      expected.insert(expected.end(), {nearest, -nearest});
    }
  }
  CHECK(same_bits(kept_by(klens::fp16{}, weights), expected));
  CHECK(same_bits(unpacked_by(klens::fp16{}, weights), expected));
}

TEST_CASE("fp16 and bf16: equal to the definition, bit for bit, at every length") {
  std::vector<std::size_t> lengths = awkward_lengths();
  for (const std::size_t more : {0, 1023, 4096}) lengths.push_back(more);
  for (const std::size_t length : lengths) {
    std::size_t wrong = 0;
    for (const row& weights : rows_of_all_kinds(length, length)) {
      row fp16(length), bf16(length);
      std::transform(weights.begin(), weights.end(), fp16.begin(), reference::nearest_fp16);
      std::transform(weights.begin(), weights.end(), bf16.begin(), reference::nearest_bf16);
      wrong += same_bits(kept_by(klens::bf16{}, weights), bf16) && same_bits(unpacked_by(klens::bf16{}, weights), bf16) ? 0 : 1;
      if (std::any_of(fp16.begin(), fp16.end(), [](float w) { return std::isinf(w); })) continue;
      wrong += same_bits(kept_by(klens::fp16{}, weights), fp16) && same_bits(unpacked_by(klens::fp16{}, weights), fp16) ? 0 : 1;
    }
    CHECK_MESSAGE(wrong == 0, "length " << length);
  }
}

TEST_CASE("bf16: halves go to the even neighbour, and the last one upwards would be infinite") {
  CHECK(kept_by(klens::bf16{}, {1 + 0x1p-8f, 1 + 3 * 0x1p-8f, -0.0f}) == row{1, 1 + 4 * 0x1p-8f, 0});
  const float end = std::bit_cast<float>(0x7f7f7fff);
  CHECK(kept_by(klens::bf16{}, {end}) == row{std::bit_cast<float>(0x7f7f0000)});
  row kept(1);
  CHECK_THROWS_AS(klens::bf16{}.round_trip(row{std::nextafter(end, infinity)}, kept), klens::numeric_error);
}

TEST_CASE("fp16: what it cannot hold names the column") {
  CHECK(kept_by(klens::fp16{}, {65519.996f}) == row{65504});
  row weights(40, 1.0f), kept(40);
  std::vector<std::byte> packed(80);
  weights[33] = -65520;
  const char* const message = "fp16: the weight in column 33 is -65520.000000; fp16 ends at 65504; use bf16";
  CHECK_THROWS_WITH_AS(klens::fp16{}.round_trip(weights, kept), message, klens::numeric_error);
  CHECK_THROWS_WITH_AS(klens::fp16{}.pack(weights, packed), message, klens::numeric_error);
  for (const float bad : {std::nanf(""), -std::nanf(""), infinity, -infinity}) {
    weights[33] = bad;
    CHECK_THROWS_AS(klens::fp16{}.round_trip(weights, kept), klens::numeric_error);
    CHECK_THROWS_AS(klens::bf16{}.round_trip(weights, kept), klens::numeric_error);
  }
  CHECK_THROWS_AS(klens::fp16{}.pack(row(3), packed), klens::shape_error);
}

TEST_CASE("fp16: in place, with its error") {
  splitmix random{3};
  for (const float size : {1.0f, 1e-5f, 1e-12f}) {
    row weights(777);
    for (float& w : weights) w = size * random.bell();
    row kept = weights;
    const klens::weight_error error = klens::fp16{}.round_trip(kept, kept);
    long double energy = 0, squared_error = 0;
    for (std::size_t i = 0; i < 777; ++i) {
      energy += static_cast<long double>(weights[i]) * weights[i];
      squared_error += std::pow(static_cast<long double>(kept[i]) - weights[i], 2);
    }
    CHECK(error.energy == near{energy, 2e-5});
    CHECK(error.squared_error == near{squared_error, 2e-5});
  }
}

TEST_CASE("f32: the weights as they are") {
  const row weights{1, -0.0f, 1e-45f, std::numeric_limits<float>::max(), -3.14159274f};
  CHECK(same_bits(kept_by(klens::f32{}, weights), weights));
  CHECK(same_bits(unpacked_by(klens::f32{}, weights), weights));
  row kept(2);
  const klens::weight_error error = klens::f32{}.round_trip(row{3, -4}, kept);
  CHECK(error.energy == 25);
  CHECK(error.squared_error == 0);
  CHECK_THROWS_WITH_AS(klens::f32{}.round_trip(row{1, infinity}, kept),
                       "f32: the weight in column 1 is inf; only finite weights can be stored", klens::numeric_error);
  CHECK_THROWS_AS(klens::f32{}.round_trip(row(3), kept), klens::shape_error);
  std::vector<std::byte> packed(8);
  klens::f32{}.pack(row{1, 2}, packed);
  CHECK(packed == std::vector{std::byte{0}, std::byte{0}, std::byte{0x80}, std::byte{0x3f}, std::byte{0}, std::byte{0},
                              std::byte{0}, std::byte{0x40}});
}
