#include <klens/quant/scheme.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <string>
#include <vector>

namespace {

using row = std::vector<float>;

// A user's own quantizer: weights become whole tenths. It cannot be packed and says nothing of its error.
struct tenths {
  std::string name() const { return "tenths"; }
  std::size_t bytes(std::size_t columns) const { return columns; }
  void round_trip(std::span<const float> weights, std::span<float> kept) const {
    for (std::size_t i = 0; i < weights.size(); ++i) kept[i] = std::round(weights[i] * 10) / 10;
  }
};
static_assert(klens::quantizer<tenths> && !klens::packing_quantizer<tenths>);

struct pairs_only : tenths {
  std::string name() const { return "pairs"; }
  bool stores(std::size_t columns) const { return columns % 2 == 0; }
};

struct described : tenths {
  klens::scheme_parts parts() const { return {.bits = 1}; }
};

std::string message_for(const std::string& name) {
  try {
    const klens::scheme scheme{name};
  } catch (const klens::argument_error& problem) {
    return problem.what();
  }
  return "";
}

}  // namespace

TEST_CASE("scheme: names are canonical and give the same scheme again") {
  for (const std::string name : {"int4-g64",
                                 "int8-channel",
                                 "int4-signed-g32",
                                 "int4-asym-g128",
                                 "int4-channel-f32",
                                 "int3-channel",
                                 "int2-asym-channel-f32",
                                 "int7-signed-g100",
                                 "f32",
                                 "fp16",
                                 "bf16",
                                 "q4_0",
                                 "q8_0",
                                 "q4_1",
                                 "q5_0",
                                 "q5_1",
                                 "q2_k",
                                 "q3_k",
                                 "q4_k",
                                 "q5_k",
                                 "q6_k",
                                 "fp8-e4m3-channel",
                                 "fp8-e5m2-channel",
                                 "mxfp4",
                                 "nvfp4",
                                 "nf4-g64",
                                 "nf4-channel"}) {
    CHECK(klens::scheme{name}.name() == name);
    CHECK(klens::scheme{name} == klens::scheme{klens::scheme{name}.name()});
  }
  for (int bits = 2; bits <= 8; ++bits)
    for (const std::string kind : {"", "-signed", "-asym"})
      for (const std::string group : {"-channel", "-g1", "-g64"})
        for (const std::string scale : {"", "-f32"}) {
          const std::string name = "int" + std::to_string(bits) + kind + group + scale;
          CHECK(klens::scheme{name}.name() == name);
        }
}

TEST_CASE("scheme: names that end in -s32, of older versions, mean today's -f32") {
  for (const std::string name : {"int4-channel", "int4-signed-g64", "int2-asym-g7"}) {
    CHECK(klens::scheme{name + "-s32"} == klens::scheme{name + "-f32"});
    CHECK(klens::scheme{name + "-s32"}.name() == name + "-f32");
    CHECK(klens::canonical_scheme_name(name + "-s32") == name + "-f32");
    CHECK(klens::canonical_scheme_name(name) == name);
  }
  for (const std::string name : {"q4_k", "q4_k_m", "fp16", "mine-s32", ""}) CHECK(klens::canonical_scheme_name(name) == name);
}

TEST_CASE("scheme: it tells its parts") {
  using klens::scheme_family;
  CHECK(klens::scheme{"int4-g64"}.parts() ==
        klens::scheme_parts{.family = scheme_family::integer, .bits = 4, .group_size = 64});
  CHECK(klens::scheme{klens::int4{.group_size = 64}}.parts() == klens::scheme{"int4-g64"}.parts());
  CHECK(klens::int8_asym{.scale = klens::scale_kind::f32}.parts() ==
        klens::scheme_parts{
            .family = scheme_family::integer, .bits = 8, .grid = klens::grid::asym, .scale = klens::scale_kind::f32});
  CHECK(klens::parts_of("int3-signed-channel")->grid == klens::grid::signed_);
  CHECK(klens::parts_of("fp16") == klens::scheme_parts{.family = scheme_family::floating_point, .bits = 16});
  CHECK(klens::parts_of("f32")->bits == 32);
  CHECK(klens::parts_of("q4_0") == klens::scheme_parts{.family = scheme_family::gguf_block, .bits = 4, .group_size = 32});
  CHECK(klens::parts_of("q8_0")->bits == 8);
  CHECK(klens::parts_of("fp8-e4m3-channel") ==
        klens::scheme_parts{.family = scheme_family::scaled_float, .bits = 8, .scale = klens::scale_kind::f32});
  CHECK(klens::parts_of("mxfp4") == klens::scheme_parts{.family = scheme_family::scaled_float, .bits = 4, .group_size = 32});
  CHECK(klens::parts_of("nvfp4")->group_size == 16);
  CHECK(klens::parts_of("nf4-g48") ==
        klens::scheme_parts{.family = scheme_family::table, .bits = 4, .group_size = 48, .scale = klens::scale_kind::f32});
  CHECK(klens::parts_of("q4_k") ==
        klens::scheme_parts{.family = scheme_family::gguf_block, .bits = 4, .group_size = 32, .grid = klens::grid::asym});
  CHECK(klens::parts_of("q6_k")->group_size == 16);
  CHECK_FALSE(klens::parts_of("q4_k_m"));
  CHECK(klens::scheme{tenths{}}.parts() == klens::scheme_parts{});
  CHECK(klens::scheme{described{}}.parts().bits == 1);
}

TEST_CASE("scheme: a name means the policy of that name") {
  row weights(96);
  for (std::size_t i = 0; i < 96; ++i) weights[i] = std::sin(static_cast<float>(i * i));
  const auto expect_same = [&](const klens::scheme& by_name, const klens::scheme& by_policy) {
    INFO(by_name.name());
    CHECK(by_name == by_policy);
    row a(96), b(96);
    const klens::weight_error error_a = by_name.round_trip(weights, a), error_b = by_policy.round_trip(weights, b);
    CHECK(a == b);
    CHECK(error_a.squared_error == error_b.squared_error);
    CHECK(by_name.bytes(96) == by_policy.bytes(96));
    CHECK(by_name.bytes(5, 96) == 5 * by_policy.bytes(96));
  };
  expect_same("int4-g64", klens::int4{.group_size = 64});
  expect_same("int8-channel", klens::int8{});
  expect_same("int5-g32-f32", klens::int5{32, klens::scale_kind::f32});
  expect_same("int4-signed-g32", klens::int4_signed{.group_size = 32});
  expect_same("int4-asym-g128", klens::int4_asym{.group_size = 128});
  expect_same("f32", klens::f32{});
  expect_same("fp16", klens::fp16{});
  expect_same("bf16", klens::bf16{});
  expect_same("q4_0", klens::q4_0{});
  expect_same("q8_0", klens::q8_0{});
  expect_same("q4_1", klens::q4_1{});
  expect_same("q5_0", klens::q5_0{});
  expect_same("q5_1", klens::q5_1{});
  expect_same("fp8-e4m3-channel", klens::fp8_e4m3{});
  expect_same("fp8-e5m2-channel", klens::fp8_e5m2{});
  expect_same("mxfp4", klens::mxfp4{});
  expect_same("nvfp4", klens::nvfp4{});
  expect_same("nf4-g32", klens::nf4{.group_size = 32});
  CHECK(klens::scheme{"int4-g64"} != klens::scheme{"int4-g32"});
}

TEST_CASE("scheme: an unknown name is answered with the grammar") {
  CHECK(message_for("int4g64") ==
        "unknown scheme 'int4g64'; a scheme is int<2 to 8>[-signed|-asym]-<channel|g<columns>>[-f32] (int4-g64, int8-channel, "
        "int4-asym-g128), f32, fp16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, fp8-e4m3-channel, "
        "fp8-e5m2-channel, mxfp4, nvfp4, nf4-<channel|g<columns>>, an int scheme with -imp, or with -gptq");
  for (const std::string name : {"",
                                 "int",
                                 "int1-channel",
                                 "int9-channel",
                                 "int4-",
                                 "int4-g",
                                 "int4-g064",
                                 "int4-g-1",
                                 "int4-g1x",
                                 "int4-channel-",
                                 "int4-f32",
                                 "int4-channel-f32-f32",
                                 "int4-channel-f32-s32",
                                 " int4-channel",
                                 "int44-channel",
                                 "fp16-f32",
                                 "fp32",
                                 "none",
                                 "int4-g99999999999999999999999",
                                 "int4-asym-signed-g4",
                                 "q4_2",
                                 "fp8-e4m3",
                                 "mxfp4-g32",
                                 "nf4",
                                 "nf4-g0",
                                 "fp8-e4m3-channel-f32"})
    CHECK_MESSAGE(!message_for(name).empty(), name);
}

TEST_CASE("scheme: messages are one short line, whatever was asked for") {
  const std::string bell{"int4\a\x7f\r"}, lines = "int4\n-g64\nfp16", long_name(5000, 'x');
  for (const std::string& name : {bell, lines, long_name, "int4-g" + std::string(5000, '9'), "int4-asym-g1" + long_name,
                                  std::string("fp16\0", 5), std::string(5000, '\n')}) {
    const std::string message = message_for(name);
    CHECK(message.starts_with("unknown scheme '"));
    CHECK(message.size() < 450);
    CHECK(std::none_of(message.begin(), message.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }));
  }
  CHECK(message_for(lines).starts_with("unknown scheme 'int4?-g64?fp16'; a scheme is int"));

  std::string list = "fp16";
  for (int group = 1; group < 2000; ++group) list += ",int4-g" + std::to_string(group);
  try {
    (void)klens::parse_schemes(list + ",fp16");
    FAIL("fp16 is named twice");
  } catch (const klens::argument_error& problem) {
    CHECK(std::string{problem.what()}.starts_with("the scheme fp16 is named twice in 'fp16,int4-g1,int4-g2,"));
    CHECK(std::string{problem.what()}.size() < 300);
  }
}

TEST_CASE("scheme: lists") {
  const std::vector<klens::scheme> both = klens::parse_schemes("int4-channel,int8-channel");
  REQUIRE(both.size() == 2);
  CHECK(both[0].name() == "int4-channel");
  CHECK(both[1].name() == "int8-channel");
  CHECK(klens::parse_schemes("fp16").size() == 1);
  CHECK_THROWS_WITH_AS((void)klens::parse_schemes("q8_0,fp16,q8_0"),
                       "the scheme q8_0 is named twice in 'q8_0,fp16,q8_0'; name it once", klens::argument_error);
  for (const char* const list : {"", ",", "fp16,", ",fp16", "fp16,,bf16", "fp16, bf16"})
    CHECK_THROWS_AS((void)klens::parse_schemes(list), klens::argument_error);
  const std::vector<klens::scheme> mixed{"int4-g64", klens::fp16{}, tenths{}};  // text and policies side by side
  CHECK(mixed[2].name() == "tenths");
}

TEST_CASE("scheme: a quantizer of the user's own") {
  const klens::scheme scheme = tenths{};
  row weights{1.23f, -0.04f, 0.5f}, kept(3);
  const klens::weight_error error = scheme.round_trip(weights, kept);
  CHECK(kept == row{1.2f, -0.0f, 0.5f});
  const auto exact = [&](std::size_t i) { return static_cast<double>(kept[i]) - static_cast<double>(weights[i]); };
  CHECK(error.squared_error == exact(0) * exact(0) + exact(1) * exact(1));
  const klens::weight_error in_place = scheme.round_trip(weights, weights);  // its error is measured all the same
  CHECK(weights == kept);
  CHECK(in_place.squared_error == error.squared_error);
  CHECK(in_place.energy == error.energy);

  CHECK(scheme.stores(17));
  CHECK_THROWS_AS(scheme.round_trip(weights, std::span(kept).first(2)), klens::shape_error);
  CHECK_FALSE(klens::scheme{pairs_only{}}.stores(17));
  CHECK_FALSE(klens::scheme{"q8_0"}.stores(33));
  CHECK(klens::scheme{"int8-channel"}.stores(33));
}
