#include "ggml_format.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <klens/error.hpp>
#include <klens/quant/gguf.hpp>
#include <utility>

#include "gguf_model.hpp"
#include "llama_test.hpp"

using namespace llama_adapter;

TEST_CASE("ggml's q4_0 and q8_0 are klens' own, bit for bit") {
  std::vector<float> weights(320);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(0.37f * static_cast<float>(i * i));
  const auto same_packed = [&](const auto& of_klens, const ggml_format& of_ggml) {
    std::vector<std::byte> packed(of_klens.bytes(320)), observed(of_ggml.bytes(320));
    of_klens.pack(weights, packed);
    of_ggml.pack(weights, observed);
    CHECK(packed == observed);
  };
  same_packed(klens::q4_0{}, ggml_format{"q4_0"});
  same_packed(klens::q8_0{}, ggml_format{"Q8_0"});
}

TEST_CASE("types go by their names, and store whole blocks") {
  const ggml_format q6_k{"Q6_K"};
  CHECK(q6_k.name() == "q6_k");
  CHECK(q6_k.bytes(512) == 2 * 210);
  CHECK(q6_k.stores(512));
  CHECK(q6_k.stores(320));  // as q8_0, which has blocks of 32
  CHECK(q6_k.bytes(320) == 10 * 34);
  CHECK_FALSE(q6_k.stores(20));
  CHECK(q6_k.stored_type(20) == GGML_TYPE_F16);
  CHECK_FALSE(ggml_format{"nvfp4"}.stores(96));                               // which has no stand-in
  CHECK_THROWS_AS((void)parse_types("q4_0,iq2_xxs"), klens::argument_error);  // needs an importance matrix
  CHECK(parse_types("q4_0,iq2_xxs", true).size() == 2);
  CHECK_THROWS_AS(ggml_format{"iq2_kt"}, klens::argument_error);
  CHECK_THROWS_AS((void)parse_types("q4_0,q4_0"), klens::argument_error);
  CHECK_THROWS_AS((void)parse_types("q4_0,"), klens::argument_error);
  CHECK(parse_types("q4_0,bf16").size() == 2);
  std::vector<float> huge(256, 1e38f);
  CHECK_THROWS_AS(ggml_format{"q8_0"}.round_trip(huge, huge), klens::numeric_error);
}

TEST_CASE("where blocks do not divide rows, the type is the one that llama-quantize takes instead") {
  const gguf_file file{written({})};
  const std::vector<float> alike(256, 1.0f);
  const std::vector<llama_model_imatrix_data> importance{
      {"blk.0.ffn_down.weight", alike.data(), 96}, {"blk.0.attn_q.weight", alike.data(), 256}, {nullptr, nullptr, 0}};
  for (const ggml_type type : ggml_format::known) {
    CAPTURE(ggml_type_name(type));
    if (!ggml_format{type}.stores(96)) continue;  // llama-quantize gives up there
    const gguf_file made{quantized(file, {{"blk.0.ffn_down.weight", type}, {"blk.0.attn_q.weight", type}}, importance.data())};
    CHECK(made.at("blk.0.ffn_down.weight").type == ggml_format{type}.stored_type(96));
    CHECK(made.at("blk.0.attn_q.weight").type == ggml_format{type}.stored_type(256));
  }
}

TEST_CASE("llama-quantize writes a file of the size that was predicted, and the bits that were measured") {
  const gguf_file file{written({})};
  tensor_types types;
  for (const auto& [name, type] :
       {std::pair{"token_embd.weight", GGML_TYPE_Q6_K}, std::pair{"output.weight", GGML_TYPE_Q5_K},
        std::pair{"blk.0.attn_q.weight", GGML_TYPE_Q4_K}, std::pair{"blk.0.ffn_down.weight", GGML_TYPE_Q5_0},
        std::pair{"blk.1.ffn_up.weight", GGML_TYPE_Q4_0}, std::pair{"blk.1.attn_v.weight", GGML_TYPE_IQ4_XS}})
    types[name] = type;
  const std::filesystem::path target = quantized(file, types);
  CHECK(std::filesystem::file_size(target) == file.file_bytes_as(types));

  const gguf_file made{target};
  gguf_model original{file, arithmetic::floats, {}}, shipped{made, arithmetic::floats, {}};
  std::vector<klens::layer> before = original.layers(), after = shipped.layers();
  for (const auto& each : types) {
    const auto& [name, type] = each;
    CAPTURE(each.first);
    CHECK(made.at(name).type == type);
    CHECK(made.at(name).bytes == bytes_as(type, file.at(name).rows, file.at(name).columns));
    klens::matrix<float> expected = named(before, name).load();
    for (Eigen::Index r = 0; r < expected.rows(); ++r)
      ggml_format{type}.round_trip(klens::row(expected, r), klens::row(expected, r));
    CHECK(same_bits(named(after, name).load(), expected));
  }
}
