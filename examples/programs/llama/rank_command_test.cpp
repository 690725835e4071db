// klens-llama rank: which types a score is for, and what is refused.
#include "rank_command.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <klens/io/scores_json.hpp>
#include <klens/metric/measure.hpp>
#include <klens/metric/metrics.hpp>
#include <tuple>

#include "ggml_format.hpp"
#include "gguf_model.hpp"
#include "llama_test.hpp"
#include "support/near.hpp"

namespace {

using namespace llama_adapter;
using support::quoted;

std::string rank(const std::filesystem::path& model, const std::string& options) {
  std::filesystem::remove(scratch("scores.json"));
  return "rank " + quoted(model) + " --metrics kl --output " + quoted(scratch("scores.json")) + " " + options;
}

std::string with_tokens(const std::vector<std::int32_t>& tokens = some_tokens(48)) {
  return "--tokens " + quoted(written(tokens, "tokens.safetensors")) + " --chunks 6 --context 8 ";
}

void check_refused(const std::string& command, const std::string& because) {
  support::check_refused(support::run_klens(command), because);
  CHECK_FALSE(std::filesystem::exists(scratch("scores.json")));
}

}  // namespace

TEST_CASE("klens-llama rank: a score is for the type that llama-quantize stores, by that type's bytes") {
  const std::filesystem::path path = written(tiny_model{});
  const auto result = support::run_klens(rank(path, with_tokens() + "--types q4_k,q5_k,q6_k --tensors 'blk.1.ffn_(up|down)'"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(holds(result.output, "q4_k is q5_0 in 1 tensor whose rows its blocks do not divide, as llama-quantize stores them"));
  CHECK(holds(result.output, "q5_k is q5_1 in 1 tensor"));
  CHECK(holds(result.output, "q6_k is q8_0 in 1 tensor"));
  const klens::scores scores = klens::read_scores(scratch("scores.json")).result;
  CHECK(scores.skipped.empty());
  REQUIRE(scores.candidates.size() == 6);

  struct stored {
    std::string tensor, asked, kept;
    std::uint64_t bytes;
  };
  const gguf_file file{path};
  gguf_model model{file, arithmetic::floats, {}};
  const std::vector<std::int32_t> tokens = some_tokens(48);
  const klens::matrix<float> reference = model.logits(tokens, 8);
  for (const stored& each : {stored{"blk.1.ffn_up.weight", "q4_k", "q4_k", 96 * 144},
                             {"blk.1.ffn_up.weight", "q5_k", "q5_k", 96 * 176},
                             {"blk.1.ffn_up.weight", "q6_k", "q6_k", 96 * 210},
                             {"blk.1.ffn_down.weight", "q4_k", "q5_0", 256 * 3 * 22},
                             {"blk.1.ffn_down.weight", "q5_k", "q5_1", 256 * 3 * 24},
                             {"blk.1.ffn_down.weight", "q6_k", "q8_0", 256 * 3 * 34}}) {
    CAPTURE(each.tensor);
    CAPTURE(each.asked);
    const klens::layer_score* const scored = scores.find(each.tensor, each.asked);
    REQUIRE(scored);
    CHECK(scored->bytes == each.bytes);
    const gguf_file made{quantized(file, {{each.tensor, ggml_format{each.kept}.type()}})};
    gguf_model shipped{made, arithmetic::floats, {}};
    const auto total = std::get<0>(klens::measure(reference, shipped.logits(tokens, 8), {}, klens::kl{}));
    CHECK(total.mean() > 0);
    CHECK(scored->metrics[0].mean == near{total.mean(), 2e-5});  // of the same logits; each within 1e-5 of the KL
  }
}

TEST_CASE("klens-llama rank: padding changes no score, and the positions that count are said") {
  const std::filesystem::path path = written(tiny_model{});
  const std::string types = "--types q4_0 --tensors blk.0 ";
  REQUIRE(support::run_klens(rank(path, with_tokens() + types)).exit_code == 0);
  const klens::scores plain = klens::read_scores(scratch("scores.json")).result;
  const std::string padded = "--tokens " + quoted(written_padded(some_tokens(48), 8, 4, "padded.safetensors")) + " ";
  const auto result = support::run_klens(rank(path, padded + types));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(holds(result.output, "6 sequences of 12 tokens, 24 of them padding (48 positions)"));
  const klens::scores masked = klens::read_scores(scratch("scores.json")).result;
  CHECK(masked.reference.nll() == near{plain.reference.nll(), 1e-5});
  REQUIRE(masked.candidates.size() == plain.candidates.size());
  for (std::size_t c = 0; c < plain.candidates.size(); ++c) {
    CHECK(masked.candidates[c].positions == 48);
    CHECK(masked.candidates[c].metrics[0].mean == near{plain.candidates[c].metrics[0].mean, 1e-3});  // of logits 1e-6 apart
  }
}

TEST_CASE("klens-llama rank: sequences beyond the context that a model was made for get a remark") {
  const std::filesystem::path path = written(tiny_model{});  // of 64 tokens
  const std::string tokens =
      "--tokens " + quoted(written(some_tokens(70), "long.safetensors")) + " --types q8_0 --tensors attn_q ";
  const auto beyond = support::run_klens(rank(path, tokens + "--context 70"));
  CHECK(beyond.exit_code == 0);
  CHECK(holds(beyond.errors, "sequences of 70 tokens are longer than this model's context_length of 64"));
  CHECK(support::run_klens(rank(path, tokens + "--context 64")).errors.empty());
  check_refused(rank(path, tokens + "--context 1"), "no token has a next one to predict");
}

TEST_CASE("klens-llama rank: a quantized model is a reference, and said to be one") {
  const std::filesystem::path path = written({.type = GGML_TYPE_Q8_0});
  const auto result = support::run_klens(rank(path, with_tokens() + "--types q4_0,q8_0 --tensors attn_q"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(holds(result.output, "2 tensors of those ranked are quantized in model.gguf already: damage counts from there"));
  const klens::scores scores = klens::read_scores(scratch("scores.json")).result;
  CHECK(scores.find("blk.0.attn_q.weight", "q4_0")->metrics[0].mean > 0);
}

TEST_CASE("klens-llama rank: models that are cut short, split, unknown or without a tokenizer are refused in one line") {
  const std::string whole = support::content_of(written(tiny_model{}));
  const std::filesystem::path cut = scratch("cut.gguf");
  for (std::size_t kept = 0; kept < whole.size(); kept = kept < 64 ? kept + 5 : kept + kept / 3) {
    CAPTURE(kept);
    std::ofstream{cut, std::ios::binary} << whole.substr(0, kept);
    check_refused(rank(cut, with_tokens()), kept < 4 ? "is no GGUF file" : "cut short");
  }
  check_refused(rank(scratch("none.gguf"), with_tokens()), "there is no such file");
  check_refused(rank(std::filesystem::temp_directory_path(), with_tokens()), "there is no such file");
  check_refused(rank(written({.also = [](gguf_context* file) { gguf_set_val_u16(file, "split.count", 3); }}), with_tokens()),
                "is one of 3 parts");
  check_refused(rank(written({.architecture = "perceptron"}), with_tokens()), "unknown model architecture: 'perceptron'");
  check_refused(rank(written({.heads = 3}), with_tokens()), "cannot load it: ");
  const std::filesystem::path path = written(tiny_model{});
  check_refused(rank(path, "--file " + quoted(path)), "the model has no tokenizer; give its token ids with --tokens");
  check_refused(rank(path, "--file " + quoted(path.parent_path())), ": cannot be read");
  check_refused(rank(path, "--chunks 0 --file " + quoted(path)), "--chunks 0: there is nothing to measure on");
}

TEST_CASE("klens-llama rank: tokens and types that do not go with the model are refused in one line") {
  const std::filesystem::path path = written(tiny_model{});
  std::vector<std::int32_t> foreign = some_tokens(48);
  foreign[20] = 11;
  check_refused(rank(path, with_tokens(foreign)), "input_ids[20] is 11, outside the model's vocabulary of 11");
  foreign[20] = -1;
  check_refused(rank(path, with_tokens(foreign)), "input_ids[20] is -1");
  check_refused(rank(path, ""), "give one of --file and --tokens, or let the model make some");
  check_refused(rank(path, with_tokens() + "--file " + quoted(path)),
                "give one of --file and --tokens, or let the model make some");
  check_refused(rank(path, with_tokens() + "--types iq2_kt"), "unknown type 'iq2_kt'; known are q4_0");
  check_refused(rank(path, with_tokens() + "--types q4_0,Q4_0"), "is named twice");
  check_refused(rank(path, with_tokens() + "--tensors nowhere"), "nowhere");
}

TEST_CASE("klens-llama rank: local and refine predict kl, and measure what no single stage shows") {
  const std::filesystem::path path = written(tiny_model{});
  const std::string tokens = with_tokens() + "--types q4_0,q2_k ";
  REQUIRE(support::run_klens(rank(path, tokens)).exit_code == 0);
  const klens::scores exact = klens::read_scores(scratch("scores.json")).result;
  for (const std::string method : {"--method local", "--method refine --stop top:3"}) {
    CAPTURE(method);
    const auto result = support::run_klens(rank(path, tokens + method));
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    CHECK(holds(result.output, "expected agreement with the exhaustive order"));
    const klens::scores predicted = klens::read_scores(scratch("scores.json")).result;
    REQUIRE(predicted.candidates.size() == exact.candidates.size());
    std::size_t held = 0;
    for (const klens::layer_score& each : predicted.candidates) {
      const klens::layer_score* const measured = exact.find(each.layer, each.scheme);
      REQUIRE(measured);
      CHECK(each.bytes == measured->bytes);
      if (each.metrics[0].low <= measured->metrics[0].mean && measured->metrics[0].mean <= each.metrics[0].high) ++held;
    }
    CHECK(held >= predicted.candidates.size() * 3 / 4);
  }
  check_refused(rank(path, tokens + "--method refine"), "refine needs options.stop");
}
