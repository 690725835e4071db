#define DOCTEST_CONFIG_IMPLEMENT
#include "gguf_model.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <klens/error.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/quant/gguf.hpp>

#include "engine.hpp"
#include "ggml_format.hpp"
#include "gguf_file.hpp"
#include "kl_base.hpp"
#include "tiny_gguf.hpp"

namespace {

using namespace llama_adapter;

// A folder of its own, gone at the end.
struct scratch_folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("klens-llama-test-" + std::to_string(::getpid()));
  scratch_folder() { std::filesystem::create_directories(path); }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() { std::filesystem::remove_all(path); }
};

std::filesystem::path scratch(const std::string& name) {
  static const scratch_folder folder;
  return folder.path / name;
}

std::filesystem::path written(const tiny_model& model) {
  const std::filesystem::path path = scratch("model.gguf");
  model.write(path);
  return path;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream stream{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{stream}, {}};
}

std::string refusal(const std::filesystem::path& path) {
  try {
    (void)gguf_file{path};
  } catch (const klens::file_error& caught) {
    return caught.what();
  }
  return "accepted";
}

std::string refusal_of_bytes(const std::string& bytes) {
  const std::filesystem::path path = scratch("bytes.gguf");
  std::ofstream{path, std::ios::binary} << bytes;
  return refusal(path);
}

bool holds(const std::string& message, const char* part) { return message.find(part) != std::string::npos; }

bool same_bits(const klens::matrix<float>& a, const klens::matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

std::vector<std::int32_t> twelve_tokens() {
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < 12; ++i) tokens.push_back(i * i % 11);
  return tokens;
}

klens::layer& named(std::vector<klens::layer>& layers, const std::string& name) {
  const auto found = std::ranges::find(layers, name, &klens::layer::name);
  REQUIRE(found != layers.end());
  return *found;
}

}  // namespace

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
  const std::vector<std::int32_t> tokens = twelve_tokens();
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
  const std::vector<std::int32_t> tokens = twelve_tokens();
  gguf_model one{file, arithmetic::floats, {.threads = 1}}, three{file, arithmetic::floats, {.threads = 3}};
  const klens::matrix<float> together = three.logits(tokens, 3);
  CHECK(same_bits(one.logits(tokens, 3), together));
  for (Eigen::Index s = 0; s < 4; ++s)  // three threads share a sequence here
    CHECK(same_bits(three.logits(std::span(tokens).subspan(static_cast<std::size_t>(3 * s), 3), 3),
                    together.middleRows(3 * s, 3)));
}

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
  CHECK_FALSE(q6_k.stores(320));
  CHECK_THROWS_AS(ggml_format{"iq2_xxs"}, klens::argument_error);  // needs an importance matrix
  CHECK_THROWS_AS(parse_types("q4_0,q4_0"), klens::argument_error);
  CHECK_THROWS_AS(parse_types("q4_0,"), klens::argument_error);
  CHECK(parse_types("q4_0,bf16").size() == 2);
  std::vector<float> huge(256, 1e38f);
  CHECK_THROWS_AS(ggml_format{"q8_0"}.round_trip(huge, huge), klens::numeric_error);
}

TEST_CASE("files that llama.cpp must not see are refused by name") {
  CHECK(holds(refusal(scratch("none.gguf")), "there is no such file"));
  CHECK(holds(refusal_of_bytes("PK"), "is no GGUF file"));
  CHECK(holds(refusal_of_bytes("GGUF"), "is damaged or cut short"));

  const std::string whole = bytes_of(written({}));
  CHECK(refusal_of_bytes(whole) == "accepted");
  for (const std::size_t length : {std::size_t{20}, std::size_t{300}, whole.size() / 2, whole.size() - 1}) {
    CAPTURE(length);
    CHECK(holds(refusal_of_bytes(whole.substr(0, length)), "cut short"));
  }

  CHECK(holds(refusal(written({.also = [](gguf_context* file) { gguf_set_val_u16(file, "split.count", 3); }})),
              "is one of 3 parts of a model; put them together"));
  CHECK(holds(refusal(written({.architecture = "perceptron"})), "cannot load it: unknown model architecture: 'perceptron'"));
  CHECK(holds(refusal(written({.heads = 0})), "cannot load it: "));
  // Heads that do not divide the width end in an assertion.
  CHECK(holds(refusal(written({.heads = 3})), "cannot load it: "));
}

TEST_CASE("what goes wrong in the other process is told in one line") {
  CHECK(failure_in_child([] {}) == std::nullopt);
  CHECK(failure_in_child([] { throw klens::error{"no such thing"}; }) == "no such thing");
  CHECK(holds(*failure_in_child([] { GGML_ASSERT(1 + 1 == 3); }), "1 + 1 == 3"));
  CHECK(holds(*failure_in_child([] { ::raise(SIGKILL); }), "signal: "));
}

TEST_CASE("a text needs a tokenizer") {
  const gguf_file file{written({})};
  const gguf_model model{file, arithmetic::floats, {}};
  CHECK_THROWS_AS((void)model.tokens_of("text", true), klens::error);
}

TEST_CASE("llama-quantize writes a file of the size that was predicted, and the bits that were measured") {
  const gguf_file file{written({})};
  tensor_types types;
  for (const auto& [name, type] :
       {std::pair{"token_embd.weight", GGML_TYPE_Q6_K}, std::pair{"output.weight", GGML_TYPE_Q5_K},
        std::pair{"blk.0.attn_q.weight", GGML_TYPE_Q4_K}, std::pair{"blk.0.ffn_down.weight", GGML_TYPE_Q5_0},
        std::pair{"blk.1.ffn_up.weight", GGML_TYPE_Q4_0}, std::pair{"blk.1.attn_v.weight", GGML_TYPE_IQ4_XS}})
    types[name] = type;
  std::vector<std::string> patterns;
  for (const gguf_tensor& each : file.tensors()) patterns.push_back("^" + each.name + "$");
  std::vector<llama_model_tensor_override> overrides;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    const gguf_tensor& tensor = file.tensors()[i];
    const auto type = types.find(tensor.name);
    overrides.push_back({patterns[i].c_str(), type == types.end() ? tensor.type : type->second});
  }
  overrides.push_back({nullptr, GGML_TYPE_COUNT});
  llama_model_quantize_params parameters = llama_model_quantize_default_params();
  parameters.ftype = LLAMA_FTYPE_MOSTLY_Q8_0;
  parameters.nthread = 1;
  parameters.tt_overrides = overrides.data();
  const std::filesystem::path target = scratch("quantized.gguf");
  REQUIRE(llama_model_quantize(file.path().c_str(), target.c_str(), &parameters) == 0);
  CHECK(std::filesystem::file_size(target) == file.file_bytes_as(types));

  const gguf_file quantized{target};
  gguf_model original{file, arithmetic::floats, {}}, shipped{quantized, arithmetic::floats, {}};
  std::vector<klens::layer> before = original.layers(), after = shipped.layers();
  for (const auto& [name, type] : types) {
    CAPTURE(name);
    CHECK(quantized.at(name).type == type);
    CHECK(quantized.at(name).bytes == bytes_as(type, file.at(name).rows, file.at(name).columns));
    klens::matrix<float> expected = named(before, name).load();
    for (Eigen::Index r = 0; r < expected.rows(); ++r)
      ggml_format{type}.round_trip(klens::row(expected, r), klens::row(expected, r));
    CHECK(same_bits(named(after, name).load(), expected));
  }
}

TEST_CASE("mixtures are those of llama-quantize") {
  const gguf_file file{written({})};
  const gguf_model model{file, arithmetic::floats, {}};
  llama_model_quantize_params parameters = llama_model_quantize_default_params();
  parameters.nthread = 1;
  for (const llama_ftype mixture : {LLAMA_FTYPE_MOSTLY_Q4_K_M, LLAMA_FTYPE_MOSTLY_Q4_0, LLAMA_FTYPE_MOSTLY_Q3_K_S}) {
    parameters.ftype = mixture;
    const std::filesystem::path target = scratch("mixture.gguf");
    REQUIRE(llama_model_quantize(file.path().c_str(), target.c_str(), &parameters) == 0);
    const gguf_file made{target};
    for (const auto& [name, type] : model.types_in(mixture)) {
      CAPTURE(name);
      CHECK(made.at(name).type == type);
    }
  }
}

TEST_CASE("a base file gives back log-probabilities to half a step of its 16 bits") {
  const hybrid::token_set tokens{twelve_tokens(), 2, 6};
  const std::filesystem::path path = scratch("logits.kl-base");
  klens::matrix<float> logits(12, 11);
  for (Eigen::Index i = 0; i < logits.size(); ++i) logits.data()[i] = 5 * std::sin(static_cast<float>(i * i));
  logits(3, 0) = logits(3, 1) - 40;  // deeper than the format reaches
  write_kl_base(path, tokens, 11, [&](std::size_t s) { return logits.middleRows(6 * static_cast<Eigen::Index>(s), 6); });
  CHECK(std::filesystem::file_size(path) == 8 + 12 + 12 * 4 + 2 * 2 * (12 + 4) * 2);  // 2 positions of each, 12 codes, a front
  kl_base base{path};
  CHECK(base.vocabulary() == 11);
  CHECK(base.tokens().tokens == tokens.tokens);
  const klens::matrix<float> read = base.logits(0, 2);
  REQUIRE(read.rows() == 4);
  for (Eigen::Index r = 0; r < 4; ++r) {
    const Eigen::Index position = r / 2 * 6 + 3 + r % 2;
    const double log_sum = std::log(logits.row(position).cast<double>().array().exp().sum());
    const float highest = logits.row(position).maxCoeff();
    for (Eigen::Index v = 0; v < 11; ++v) {
      const float within = std::max(logits(position, v), highest - 16);
      CHECK(std::abs(read(r, v) - (within - log_sum)) < 16.0 / 65535 / 2 + 40 * 6e-8 * 4);
    }
  }
  CHECK(base.logits(1, 1) == read.bottomRows(2));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  CHECK_THROWS_AS(kl_base{path}, klens::file_error);
  CHECK_THROWS_AS(kl_base{written({})}, klens::file_error);
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
}

int main(int argc, char** argv) {
  start_engine();
  return doctest::Context{argc, argv}.run();
}
