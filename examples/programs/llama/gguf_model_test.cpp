#define DOCTEST_CONFIG_IMPLEMENT
#include "gguf_model.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <klens/error.hpp>
#include <klens/io/safetensors.hpp>
#include <string_view>

#include "engine.hpp"
#include "ggml_format.hpp"
#include "gguf_file.hpp"
#include "gguf_plan.hpp"
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

namespace {

// What llama-quantize makes of a file in a mixture, told the rules, with an importance matrix where it wants one.
gguf_file quantized_by(const gguf_file& file, llama_ftype mixture, const mixture_rules& rules, bool with_importance) {
  std::vector<std::vector<float>> importance;
  std::vector<llama_model_imatrix_data> of_tensors;
  for (const gguf_tensor& each : file.tensors()) importance.emplace_back(each.columns * each.experts, 1.0f);
  for (std::size_t i = 0; i < importance.size(); ++i)
    of_tensors.push_back({file.tensors()[i].name.c_str(), importance[i].data(), importance[i].size()});
  of_tensors.push_back({nullptr, nullptr, 0});
  llama_model_quantize_params parameters = llama_model_quantize_default_params();
  parameters.ftype = mixture;
  parameters.nthread = 1;
  parameters.pure = rules.pure;
  if (rules.output) parameters.output_tensor_type = *rules.output;
  if (rules.token_embedding) parameters.token_embedding_type = *rules.token_embedding;
  if (with_importance) parameters.imatrix = of_tensors.data();
  REQUIRE(llama_model_quantize(file.path().c_str(), scratch("quantized.gguf").c_str(), &parameters) == 0);
  return gguf_file{scratch("quantized.gguf")};
}

void check_mixture(const tiny_model& of, const std::string& name, const mixture_rules& rules, bool with_importance = false) {
  CAPTURE(name);
  CAPTURE(of.experts);
  CAPTURE(of.tied);
  const gguf_file file{written(of)};
  const gguf_model model{file, arithmetic::floats, {}};
  const gguf_file made = quantized_by(file, mixture_of(name), rules, with_importance);
  for (const auto& [tensor, type] : model.types_in(mixture_of(name), rules)) {
    CAPTURE(tensor);
    CHECK(ggml_format::name_of(made.at(tensor).type) == ggml_format::name_of(type));
  }
}

}  // namespace

TEST_CASE("mixtures are those of llama-quantize, of experts too") {
  for (const std::uint32_t experts : {0u, 3u, 8u}) {
    for (const char* each :
         {"Q4_0",   "Q4_1", "Q5_0",  "Q5_1",  "Q8_0",   "Q2_K",   "Q3_K_S", "Q3_K_M", "Q3_K_L",    "Q4_K_S", "Q4_K_M", "Q5_K_S",
          "Q5_K_M", "Q6_K", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS", "TQ1_0",  "TQ2_0",  "MXFP4_MOE", "Q2_0",   "F16",    "BF16"})
      check_mixture({.experts = experts}, each, {});
    for (const char* each : {"Q2_K_S", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XS"})
      check_mixture({.experts = experts}, each, {}, true);
  }
}

TEST_CASE("mixtures are those of llama-quantize --pure, --output-tensor-type and --token-embedding-type") {
  for (const bool tied : {false, true})
    for (const char* each : {"Q4_K_M", "Q3_K_M", "Q4_0", "F16"})
      for (const mixture_rules& rules :
           {mixture_rules{.pure = true}, mixture_rules{.output = GGML_TYPE_Q5_K},
            mixture_rules{.token_embedding = GGML_TYPE_Q3_K}, mixture_rules{true, GGML_TYPE_Q8_0, GGML_TYPE_F16}})
        check_mixture({.tied = tied}, each, rules);
}

TEST_CASE("rules decide the type of the output tensor, which a tied embedding is as well, and of the embedding before that") {
  const mixture_rules output{.output = GGML_TYPE_Q5_K}, embedding{.token_embedding = GGML_TYPE_Q3_K},
      both{false, GGML_TYPE_Q5_K, GGML_TYPE_Q3_K};
  const gguf_file separate{written(tiny_model{}, "separate.gguf")}, tied{written(tiny_model{.tied = true}, "tied.gguf")};
  const gguf_model two{separate, arithmetic::stored, {}}, one{tied, arithmetic::stored, {}};
  CHECK(two.types_by({}).empty());
  CHECK(two.types_by(output) == tensor_types{{"output.weight", GGML_TYPE_Q5_K}});
  CHECK(two.types_by(both) == tensor_types{{"output.weight", GGML_TYPE_Q5_K}, {"token_embd.weight", GGML_TYPE_Q3_K}});
  CHECK(one.types_by(output) == tensor_types{{"token_embd.weight", GGML_TYPE_Q5_K}});
  CHECK(one.types_by(embedding) == tensor_types{{"token_embd.weight", GGML_TYPE_Q3_K}});
  CHECK(one.types_by(both) == tensor_types{{"token_embd.weight", GGML_TYPE_Q3_K}});
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
