#include <klens/quant/scheme.hpp>

#include <doctest/doctest.h>

#include <klens/quant/round_trip.hpp>
#include <limits>
#include <string>
#include <vector>

namespace {

struct to_zero {  // a user's own, with the least that is asked for
  [[nodiscard]] std::string name() const { return "to-zero"; }
  [[nodiscard]] std::size_t bytes(std::size_t) const { return 0; }
  void round_trip(std::span<const float>, std::span<float> kept) const {
    for (float& each : kept) each = 0;
  }
};

}  // namespace

static_assert(klens::quantizer<to_zero> && !klens::packing_quantizer<to_zero>);

TEST_CASE("scheme: names come back as they went in") {
  for (const char* name : {"int4-g64", "int8-channel", "int4-signed-g32", "int4-asym-g128", "int4-channel-s32", "int2-channel", "int3-g7",
                           "int8-asym-channel-s32", "fp16", "bf16", "q4_0", "q8_0"}) {
    const klens::scheme scheme{name};
    CHECK(scheme.name() == name);
    CHECK(klens::scheme{scheme.name()} == scheme);
    CHECK(scheme.can_pack());
  }
}

TEST_CASE("scheme: a policy and its name are the same scheme") {
  CHECK(klens::scheme{klens::int4{.group_size = 64}} == klens::scheme{"int4-g64"});
  CHECK(klens::scheme{klens::int8_asym{}} == klens::scheme{"int8-asym-channel"});
  CHECK(!(klens::scheme{"int4-g64"} == klens::scheme{"int4-g32"}));
}

TEST_CASE("scheme: what is no name is refused with the text in the message") {
  for (const std::string name : {"", "int", "int4", "int1-channel", "int9-channel", "int4-g", "int4-g0", "int4-g-3", "int4-gx", "int4-channel-s16",
                                 "int4-sym-g32", "INT4-g32", "int4-g32 ", "int4-g99999999999999999999999", "fp32", "q4_1", "int4-channel-g32"})
    CHECK_THROWS_WITH_AS(klens::scheme{name}, doctest::Contains(("\"" + name + "\"").c_str()), klens::argument_error);
}

TEST_CASE("scheme: lists") {
  const std::vector<klens::scheme> schemes = klens::parse_schemes("int4-channel,int8-g32,fp16");
  REQUIRE(schemes.size() == 3);
  CHECK(schemes[1].name() == "int8-g32");
  for (const char* list : {"", ",", "int4-channel,", "fp16,fp16", "fp16 int4-channel"})
    CHECK_THROWS_AS((void)klens::parse_schemes(list), klens::argument_error);
}

TEST_CASE("scheme: bytes of rows and matrices") {
  CHECK(klens::scheme{"int4-g32"}.bytes(64) == 32 + 4);
  CHECK(klens::scheme{"int4-g32"}.bytes(10, 64) == 360);
  CHECK(klens::scheme{"fp16"}.bytes(3, 5) == 30);
  CHECK(klens::scheme{"q4_0"}.bytes(64) == 2 * 18);
  CHECK(klens::scheme{"q8_0"}.bytes(64) == 2 * 34);
  CHECK(klens::scheme{"q4_0"}.stores(64));
  CHECK(!klens::scheme{"q4_0"}.stores(65));
  CHECK(klens::scheme{"int4-g32"}.stores(65));
}

TEST_CASE("scheme: a user's quantizer, and what it changed") {
  const klens::scheme scheme{to_zero{}};
  CHECK(scheme.name() == "to-zero");
  CHECK(!scheme.can_pack());
  CHECK(scheme.stores(17));
  const std::vector<float> row{3, 4};
  std::vector<float> kept(2);
  const klens::weight_error error = scheme.round_trip(row, kept);
  CHECK(kept == std::vector<float>{0, 0});
  CHECK(error.energy == 25);
  CHECK(error.squared_error == 25);
  std::vector<float> in_place{3, 4};
  CHECK(scheme.round_trip(in_place, in_place).squared_error == 25);
  std::vector<std::byte> none;
  CHECK_THROWS_AS(scheme.pack(row, none), klens::argument_error);
}

TEST_CASE("fp16 and bf16: to nearest, halves to even, and overflow is named") {
  std::vector<float> kept(2);
  klens::scheme{"bf16"}.round_trip(std::vector<float>{1.00390625f, 1.01171875f}, kept);
  CHECK(kept == std::vector<float>{1.0f, 1.015625f});
  klens::scheme{"fp16"}.round_trip(std::vector<float>{1.00048828125f, 65519.0f}, kept);
  CHECK(kept == std::vector<float>{1.0f, 65504.0f});
  CHECK_THROWS_WITH_AS(klens::scheme{"fp16"}.round_trip(std::vector<float>{0, 65520.0f}, kept), doctest::Contains("1"), klens::numeric_error);
  CHECK_THROWS_AS(klens::scheme{"bf16"}.round_trip(std::vector<float>{0, std::numeric_limits<float>::max()}, kept), klens::numeric_error);
}

TEST_CASE("q4_0 and q8_0: rows that blocks do not fill are refused") {
  std::vector<float> row(33), kept(33);
  CHECK_THROWS_AS(klens::scheme{"q4_0"}.round_trip(row, kept), klens::argument_error);
}

TEST_CASE("round_trip: a matrix row by row, the same for any number of threads, and the row in the message") {
  klens::matrix<float> weights = klens::matrix<float>::Random(301, 257);
  klens::matrix<float> one(301, 257), three(301, 257);
  const klens::scheme scheme{"int4-g32"};
  const klens::weight_error first = klens::round_trip(scheme, weights, one);
  const klens::weight_error second = klens::round_trip(scheme, weights, three, {.threads = 3});
  CHECK(one == three);
  CHECK(first.energy == second.energy);
  CHECK(first.squared_error == second.squared_error);
  std::vector<float> row(257);
  scheme.round_trip(klens::row(weights, 7), row);
  CHECK(std::equal(row.begin(), row.end(), klens::row(one, 7).begin()));
  weights(200, 3) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH_AS(klens::round_trip(scheme, weights, one), doctest::Contains("row 200"), klens::numeric_error);
  klens::matrix<float> narrow(301, 256);
  CHECK_THROWS_AS(klens::round_trip(scheme, weights, narrow), klens::shape_error);
}
