#define DOCTEST_CONFIG_IMPLEMENT
#include "gguf_model.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <klens/error.hpp>
#include <klens/io/safetensors.hpp>
#include <string_view>

#include "engine.hpp"
#include "gguf_file.hpp"
#include "llama_test.hpp"

using namespace llama_adapter;

TEST_CASE("layers are what llama-quantize changes, [out x in], in float whatever the file holds") {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
    CAPTURE(ggml_type_name(type));
    const gguf_file file{written({.type = type})};
    gguf_model model{file, arithmetic::floats, {}};
    std::vector<klens::layer> layers = model.layers();
    CHECK(layers.size() == 16);  // 7 in each of two blocks, the embedding, the head; norms are not among them
    const klens::layer& down = named(layers, "blk.1.ffn_down.weight");
    CHECK(down.rows() == 256);
    CHECK(down.columns() == 96);
    CHECK(down.is_float_memory());
    CHECK(named(layers, "token_embd.weight").note.empty());
  }
}

TEST_CASE("an embedding that is the head as well says so") {
  const gguf_file file{written({.tied = true})};
  gguf_model model{file, arithmetic::floats, {}};
  std::vector<klens::layer> layers = model.layers();
  CHECK(layers.size() == 15);
  CHECK(holds(named(layers, "token_embd.weight").note, "tied to the head"));
}

TEST_CASE("changed weights reach the logits; put back, the logits are what they were, bit for bit") {
  const gguf_file file{written({})};
  gguf_model model{file, arithmetic::floats, {.threads = 2}};
  const std::vector<std::int32_t> tokens = some_tokens(12);
  const klens::matrix<float> before = model.logits(tokens, 6);
  REQUIRE(before.rows() == 12);
  REQUIRE(before.cols() == 11);
  for (klens::layer& each : model.layers()) {
    CAPTURE(each.name);
    const klens::matrix<float> weights = each.load();
    each.store(2 * weights);
    const klens::matrix<float> changed = model.logits(tokens, 6);
    CHECK_FALSE(same_bits(changed, before));
    if (each.name == "output.weight") CHECK(same_bits(changed, 2 * before));  // powers of two round nowhere
    each.store(weights);
    CHECK(same_bits(model.logits(tokens, 6), before));
  }
}

TEST_CASE("logits do not depend on batch and threads") {
  const gguf_file file{written({})};
  const std::vector<std::int32_t> tokens = some_tokens(12);
  gguf_model one{file, arithmetic::floats, {.threads = 1}}, three{file, arithmetic::floats, {.threads = 3}};
  const klens::matrix<float> together = three.logits(tokens, 3);
  CHECK(same_bits(one.logits(tokens, 3), together));
  for (Eigen::Index s = 0; s < 4; ++s)  // three threads share a sequence here
    CHECK(same_bits(three.logits(std::span(tokens).subspan(static_cast<std::size_t>(3 * s), 3), 3),
                    together.middleRows(3 * s, 3)));
}

TEST_CASE("a text needs a tokenizer") {
  const gguf_file file{written({})};
  const gguf_model model{file, arithmetic::floats, {}};
  CHECK_THROWS_AS((void)model.tokens_of("text", true), klens::error);
}

TEST_CASE("mixtures are those of llama-quantize") {
  const gguf_file file{written({})};
  const gguf_model model{file, arithmetic::floats, {}};
  for (const llama_ftype mixture : {LLAMA_FTYPE_MOSTLY_Q4_K_M, LLAMA_FTYPE_MOSTLY_Q4_0, LLAMA_FTYPE_MOSTLY_Q3_K_S}) {
    const gguf_file made{quantized(file, mixture)};
    for (const auto& each : model.types_in(mixture)) {
      CAPTURE(each.first);
      CHECK(made.at(each.first).type == each.second);
    }
  }
}

TEST_CASE("the shipped model in GGUF gives the logits of transformers") {
  if (std::string_view{KLENS_LLAMA_MODEL}.empty()) {
    MESSAGE("left out: no KLENS_LLAMA_MODEL was given");
    return;
  }
  const klens::safetensors golden{std::filesystem::path{KLENS_EXAMPLE_DATA} / "wikitext-hybrid-4m" / "golden.safetensors"};
  std::vector<std::int32_t> tokens;
  for (const std::int64_t each : golden.integers("input_ids")) tokens.push_back(static_cast<std::int32_t>(each));
  const gguf_file file{KLENS_LLAMA_MODEL};
  gguf_model model{file, arithmetic::floats, {.threads = 2}};
  const klens::matrix<float> logits = model.logits(tokens, 128);
  const klens::stored_tensor& stored = golden.at("logits");
  REQUIRE(stored.bytes.size() == static_cast<std::size_t>(logits.size()) * sizeof(float));
  klens::matrix<float> expected(logits.rows(), logits.cols());
  std::memcpy(expected.data(), stored.bytes.data(), stored.bytes.size());
  // Both compute in float32 from the same f16 weights, in other orders: sums of up to 448 products in each of 8 blocks.
  CHECK((logits - expected).cwiseAbs().maxCoeff() < 8 * 448 * 6e-8f * expected.cwiseAbs().maxCoeff());
  MESSAGE("largest difference ", (logits - expected).cwiseAbs().maxCoeff(), " of ", expected.cwiseAbs().maxCoeff());

  const std::vector<std::int32_t> special = model.tokens_of(" the <unk> of", true);
  CHECK(std::ranges::count(special, 1) == 1);
  CHECK(std::ranges::count(model.tokens_of(" the <unk> of", false), 1) == 0);
  CHECK_THROWS_AS((void)model.tokens_of("\xf7\xbf\xbf\xbf", false), klens::error);
}

int main(int argc, char** argv) {
  start_engine();
  return doctest::Context{argc, argv}.run();
}
