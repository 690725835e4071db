#include <klens/quant/packing.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <klens/quant/scheme.hpp>
#include <span>
#include <string>
#include <support/reference_quantizers.hpp>
#include <vector>

namespace {

using row = std::vector<float>;

klens::matrix<float> weights_of(Eigen::Index rows, Eigen::Index columns) {
  splitmix random{static_cast<std::uint64_t>(rows)};
  klens::matrix<float> weights(rows, columns);
  for (Eigen::Index i = 0; i < weights.size(); ++i) weights.data()[i] = random.bell();
  return weights;
}

// A user's own quantizer with a stored form: weights become whole numbers, one byte each.
struct whole_numbers {
  std::string name() const { return "whole"; }
  std::size_t bytes(std::size_t columns) const { return columns; }
  void round_trip(std::span<const float> weights, std::span<float> kept) const {
    std::transform(weights.begin(), weights.end(), kept.begin(), [](float w) { return std::round(w); });
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const {
    for (std::size_t i = 0; i < weights.size(); ++i)
      packed[i] = static_cast<std::byte>(static_cast<int>(std::round(weights[i])));
  }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const {
    for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = static_cast<float>(static_cast<signed char>(packed[i]));
  }
};
static_assert(klens::packing_quantizer<whole_numbers>);

struct tenths {
  std::string name() const { return "tenths"; }
  std::size_t bytes(std::size_t columns) const { return columns; }
  void round_trip(std::span<const float> weights, std::span<float> kept) const {
    for (std::size_t i = 0; i < weights.size(); ++i) kept[i] = std::round(weights[i] * 10) / 10;
  }
};

}  // namespace

TEST_CASE("packer: what a scheme stores comes back as its round trip") {
  row weights(64), kept(64), unpacked(64);
  for (std::size_t i = 0; i < 64; ++i) weights[i] = std::cos(static_cast<float>(i));
  for (const klens::scheme& scheme :
       klens::parse_schemes("int4-g32,int6-asym-channel,int8-signed-g64-f32,f32,fp16,bf16,q4_0,"
                            "q8_0,q4_1,q5_0,q5_1,fp8-e4m3-channel,fp8-e5m2-channel,mxfp4,nvfp4,nf4-g24")) {
    const klens::packer packer{scheme};
    CHECK(packer.name() == scheme.name());
    REQUIRE(packer.bytes(64) == scheme.bytes(64));
    std::vector<std::byte> packed(scheme.bytes(64));
    packer.pack(weights, packed);
    packer.unpack(packed, unpacked);
    scheme.round_trip(weights, kept);
    CHECK_MESSAGE(unpacked == kept, scheme.name());
  }
}

TEST_CASE("packer: of a user's quantizer its own pack and unpack; without them an error") {
  const row weights{1.4f, -3.7f, 0};
  std::vector<std::byte> packed(3);
  const klens::packer packer{klens::scheme{whole_numbers{}}};
  packer.pack(weights, packed);
  CHECK(packed == std::vector{std::byte{1}, std::byte{0xfc}, std::byte{0}});
  row kept(3);
  packer.unpack(packed, kept);
  CHECK(kept == row{1, -4, 0});
  CHECK_THROWS_WITH_AS(klens::packer{klens::scheme{tenths{}}}, "tenths has no stored form: give it pack() and unpack()",
                       klens::argument_error);
}

TEST_CASE("pack: the stored rows one after the other; unpack: what round_trip gives; for any number of threads") {
  for (const Eigen::Index columns : {1, 96, 1000, 1024}) {
    const klens::matrix<float> weights = weights_of(150, columns);
    for (const klens::scheme& scheme : klens::parse_schemes("int4-g32,int3-g24,int8-channel,int4-asym-g128,fp16,q4_0")) {
      const auto length = static_cast<std::size_t>(columns);
      if (!scheme.stores(length)) continue;
      INFO(scheme.name(), " ", columns);
      const klens::packer packer{scheme};
      const std::size_t row_bytes = scheme.bytes(length);
      std::vector<std::byte> packed(150 * row_bytes);
      for (std::size_t r = 0; r < 150; ++r)
        packer.pack(klens::row(weights, static_cast<Eigen::Index>(r)), std::span(packed).subspan(r * row_bytes, row_bytes));
      klens::matrix<float> expected(150, columns);
      klens::round_trip(scheme, weights, expected);
      for (const std::size_t threads : {1, 3}) {
        std::vector<std::byte> again(packed.size());
        klens::pack(packer, weights, again, {threads});
        CHECK(again == packed);
        klens::matrix<float> kept = klens::matrix<float>::Constant(150, columns + 3, 9);
        klens::unpack(packer, packed, kept.leftCols(columns), {threads});
        CHECK(kept.leftCols(columns) == expected);
        CHECK((kept.rightCols(3).array() == 9).all());
      }
    }
  }
}

TEST_CASE("pack: weights of half are the floats that they stand for, also in rows of a wider matrix") {
  const klens::matrix<klens::half> narrow = weights_of(90, 1000).cast<klens::half>();
  const klens::matrix<float> wide = narrow.cast<float>();
  const klens::int4 scheme{.group_size = 32};
  std::vector<std::byte> packed(90 * scheme.bytes(640)), expected(packed.size());
  klens::pack(scheme, narrow.middleCols(5, 640), packed);
  klens::pack(scheme, wide.middleCols(5, 640).eval(), expected);
  CHECK(packed == expected);
}

TEST_CASE("pack, unpack: as many bytes as the matrix takes, and errors that name the row") {
  klens::matrix<float> weights = weights_of(2, 64);
  std::vector<std::byte> packed(71);
  const klens::int4 scheme{.group_size = 32};
  CHECK_THROWS_WITH_AS(klens::unpack(scheme, packed, weights), "unpack: 71 bytes for 2x64 weights of int4-g32; give 72",
                       klens::shape_error);
  CHECK_THROWS_WITH_AS(klens::pack(scheme, weights, packed), "pack: 71 bytes for 2x64 weights of int4-g32; give 72",
                       klens::shape_error);
  packed.resize(72);
  weights(1, 40) = std::nanf("");
  CHECK_THROWS_WITH_AS(klens::pack(scheme, weights, packed), doctest::Contains("row 1: int4-g32: the weight in column 40"),
                       klens::numeric_error);
}
