// That the bytes are ggml's is golden_test.cpp's to hold, for every K-type.
#include <klens/quant/gguf_k.hpp>

#include <doctest/doctest.h>

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

template <class Check>
void for_all_types(const Check& check) {
  check(klens::q2_k{}, 2);
  check(klens::q3_k{}, 3);
  check(klens::q4_k{}, 4);
  check(klens::q5_k{}, 5);
  check(klens::q6_k{}, 6);
}

double relative_error(const row& kept, const row& weights) {
  double error = 0, energy = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    error += std::pow(static_cast<double>(kept[i]) - weights[i], 2);
    energy += std::pow(static_cast<double>(weights[i]), 2);
  }
  return energy == 0 ? error : error / energy;
}

}  // namespace

TEST_CASE("K-types: sizes are ggml's") {
  static_assert(klens::q2_k::bytes(256) == 84 && klens::q3_k::bytes(256) == 110 && klens::q4_k::bytes(256) == 144 &&
                klens::q5_k::bytes(256) == 176 && klens::q6_k::bytes(512) == 420);
  static_assert(klens::q4_k::stores(0) && klens::q4_k::stores(512) && !klens::q4_k::stores(128));
}

TEST_CASE("K-types: what is packed comes back as the round trip, alone, beside others and in place") {
  for_all_types([](const auto& quantizer, int bits) {
    INFO(quantizer.name());
    for (const std::size_t length : {0, 256, 512, 768, 2304})
      for (row weights : rows_of_all_kinds(length, length + 5)) {
        const row kept = kept_by(quantizer, weights);
        std::vector<std::byte> packed(quantizer.bytes(length));
        quantizer.pack(weights, packed);
        row unpacked(length);
        quantizer.unpack(packed, unpacked);
        CHECK(same_bits(unpacked, kept));
        for (std::size_t first = 0; first < length; first += 256) {  // a block ignores its neighbours
          const row block(weights.begin() + static_cast<std::ptrdiff_t>(first),
                          weights.begin() + static_cast<std::ptrdiff_t>(first + 256));
          const row alone = kept_by(quantizer, block);
          CHECK(same_bits(alone, {kept.begin() + static_cast<std::ptrdiff_t>(first),
                                  kept.begin() + static_cast<std::ptrdiff_t>(first + 256)}));
        }
        quantizer.round_trip(weights, weights);
        CHECK(same_bits(weights, kept));
      }
    splitmix random{3};
    row usual(4096);
    for (float& each : usual) each = random.bell();
    // Uniform codes over +-2 spreads: a step of 4 / 2^b of them gives step^2 / 12 of the energy; half of that again for tails.
    CHECK(relative_error(kept_by(quantizer, usual), usual) < 1.5 * std::pow(4.0 / (1 << bits), 2) / 3);
  });
}

TEST_CASE("K-types: zeros stay zeros") {
  for_all_types([](const auto& quantizer, int) {
    for (const float each : kept_by(quantizer, row(512, 0.0f))) CHECK(each == 0);
    row tiny(256, 1e-30f);  // d is less than fp16's least number
    for (const float each : kept_by(quantizer, tiny)) CHECK(each == 0);
  });
}

TEST_CASE("K-types: what cannot be stored") {
  for_all_types([](const auto& quantizer, int) {
    const std::string name = quantizer.name();
    row weights(128), kept(128);
    CHECK_THROWS_WITH_AS(quantizer.round_trip(weights, kept),
                         (name + ": a row of 128 columns is no multiple of 256; use q4_0, q5_0 or q8_0 for it, or an integer "
                                 "scheme")
                             .c_str(),
                         klens::argument_error);
    weights.assign(1024, 1), kept.resize(1024);
    for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
      weights[700] = bad;
      CHECK_THROWS_WITH_AS(
          quantizer.round_trip(weights, kept),
          (name + ": the weight in column 700 is " + std::to_string(bad) + "; only finite weights can be stored").c_str(),
          klens::numeric_error);
    }
    for (const float large : {-1e12f, 1e30f, 3e38f, -3e38f}) {
      weights[700] = large;
      CHECK_THROWS_WITH_AS(quantizer.round_trip(weights, kept),
                           doctest::Contains((name + ": columns 512 to 767 need a scale of ").c_str()), klens::numeric_error);
    }
    CHECK_THROWS_AS(quantizer.round_trip(row(256), kept), klens::shape_error);
  });
}
