// Sequences that grow by a token each, and what klens-llama makes of them: --generate.
#include "growing_sequences.hpp"

#include <doctest/doctest.h>
#include <gguf.h>

#include <algorithm>
#include <cmath>
#include <klens/io/safetensors.hpp>
#include <klens/io/scores_json.hpp>
#include <span>
#include <string_view>

#include "gguf_model.hpp"
#include "llama_test.hpp"
#include "support/surprise.hpp"

namespace {

using namespace llama_adapter;
using support::quoted;
using support::run_klens;

// Logits of sequences of equal length, token by token.
klens::matrix<float> grown(const gguf_file& file, const std::vector<std::int32_t>& tokens, std::size_t length,
                           std::size_t threads = 1) {
  const gguf_model model{file, arithmetic::stored, {}};
  const std::size_t sequences = tokens.size() / length;
  growing_sequences growing{model.handle(), sequences, length, threads};
  klens::matrix<float> all(static_cast<Eigen::Index>(tokens.size()), static_cast<Eigen::Index>(model.vocabulary()));
  std::vector<std::int32_t> newest(sequences);
  for (std::size_t t = 0; t < length; ++t) {
    for (std::size_t s = 0; s < sequences; ++s) newest[s] = tokens[s * length + t];
    const klens::matrix<float> next = growing.after(newest);
    for (std::size_t s = 0; s < sequences; ++s)
      all.row(static_cast<Eigen::Index>(s * length + t)) = next.row(static_cast<Eigen::Index>(s));
  }
  return all;
}

// The tokens that a command keeps.
std::vector<std::int64_t> generated(const std::filesystem::path& model, const std::string& options) {
  const std::filesystem::path file = scratch("own.safetensors");
  const auto result = run_klens("rank " + quoted(model) + " --types q8_0 --tensors attn_q --generated " + quoted(file) +
                                " --context 16 " + options);
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  return klens::safetensors{file}.integers("input_ids");
}

}  // namespace

TEST_CASE("sequences that grow by a token each have the logits of whole ones") {
  std::vector<std::filesystem::path> models{written({.type = GGML_TYPE_F32})};
  if (!std::string_view{KLENS_LLAMA_MODEL}.empty()) models.emplace_back(KLENS_LLAMA_MODEL);  // of recurrent blocks as well
  for (const std::filesystem::path& path : models) {
    const gguf_file file{path};
    gguf_model whole{file, arithmetic::floats, {}};
    const std::vector<std::int32_t> tokens = some_tokens(99);
    const klens::matrix<float> expected = whole.logits(tokens, 9);
    // In f32 both sum the same products in another order; from f16 weights, one of them rounds activations to 11 bits.
    const float apart = (grown(file, tokens, 9) - expected).cwiseAbs().maxCoeff() / expected.cwiseAbs().maxCoeff();
    CHECK(apart < (path == models.front() ? 1e-5f : 0x1p-7f));
  }
}

TEST_CASE("what a sequence gives does not depend on the others and on threads") {
  const gguf_file file{written({.type = GGML_TYPE_Q8_0})};
  const std::vector<std::int32_t> tokens = some_tokens(99);
  const klens::matrix<float> eleven = grown(file, tokens, 9);
  CHECK(same_bits(grown(file, tokens, 9, 3), eleven));
  CHECK(same_bits(grown(file, tokens, 9, 5), eleven));
  const klens::matrix<float> one = grown(file, {tokens.begin(), tokens.begin() + 9}, 9);
  CHECK(same_bits(one, eleven.topRows(9)));
}

TEST_CASE("klens-llama --generate: tokens are draws from the model's own distribution, and depend on their seed alone") {
  const std::filesystem::path path = written(tiny_model{});
  const std::vector<std::int64_t> all = generated(path, "--generate 640");
  REQUIRE(all.size() == 640);
  const std::vector<std::int32_t> tokens(all.begin(), all.end());
  gguf_model model{gguf_file{path}, arithmetic::stored, {}};
  const klens::matrix<float> logits = model.logits(tokens, 16);
  const auto [excess, deviation] =
      support::surprise_of<std::int32_t>(tokens, 16, std::span(logits.data(), static_cast<std::size_t>(logits.size())));
  CHECK(deviation > 1);
  CHECK(std::abs(excess) < 4 * deviation);  // a good program fails once in 16000 seeds, and this seed is fixed

  CHECK(generated(path, "--generate 640 --threads 3") == all);
  const std::vector<std::int64_t> some = generated(path, "--generate 100");
  CHECK(some.size() == 96);  // whole sequences
  CHECK(std::equal(some.begin(), some.end(), all.begin()));
  CHECK(generated(path, "--generate 100 --generate-seed 2") != some);
}

TEST_CASE("klens-llama --generate: sequences begin with the token that the file names, else with any") {
  const auto first_tokens = [](const std::vector<std::int64_t>& tokens) {
    std::vector<std::int64_t> first;
    for (std::size_t at = 0; at < tokens.size(); at += 16) first.push_back(tokens[at]);
    std::ranges::sort(first);
    first.erase(std::unique(first.begin(), first.end()), first.end());
    return first;
  };
  CHECK(first_tokens(generated(written(tiny_model{}), "--generate 512")).size() > 5);
  if (std::string_view{KLENS_LLAMA_MODEL}.empty()) return;
  const std::string scan = "--generate 64 --metrics kl";
  CHECK(first_tokens(generated(KLENS_LLAMA_MODEL, scan)) == std::vector<std::int64_t>{0});  // bos_token_id of its config
}

TEST_CASE("klens-llama --generate: the tokens that were kept give the same scores, and a plan is measured on others") {
  const std::filesystem::path path = written(tiny_model{});
  const std::string own = quoted(scratch("kept.safetensors"));
  const auto scores_on = [&](const std::string& name, const std::string& tokens) {
    const auto result =
        run_klens("rank " + quoted(path) + " --types q4_0,q8_0 --metrics kl --output " + quoted(scratch(name)) + " " + tokens);
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    return klens::read_scores(scratch(name)).result;
  };
  const klens::scores ours = scores_on("own.json", "--generate 256 --context 32 --generated " + own);
  const klens::scores theirs = scores_on("file.json", "--tokens " + own);
  REQUIRE(ours.candidates.size() == theirs.candidates.size());
  for (std::size_t c = 0; c < ours.candidates.size(); ++c)
    CHECK(ours.candidates[c].metrics[0].mean == theirs.candidates[c].metrics[0].mean);

  const std::string plan =
      "plan " + quoted(path) + " --scores " + quoted(scratch("own.json")) + " --like Q4_0 --generate 256 --context 32 ";
  const auto planned = run_klens(plan);
  CHECK_MESSAGE(planned.exit_code == 0, planned.errors);
  CHECK(holds(planned.output, "held out: 8 sequences of 32 tokens (256 positions)"));
  support::check_refused(run_klens(plan + "--generate-seed 1"), "the held-out tokens overlap with those that were scored");
}

TEST_CASE("klens-llama --generate: tokens come from one place") {
  const std::filesystem::path path = written(tiny_model{});
  for (const std::string& each : {"--tokens " + quoted(written(some_tokens(48), "tokens.safetensors")),
                                  "--file " + quoted(path), "--kl-divergence-base " + quoted(path), std::string{"--chunks 2"},
                                  std::string{"--sequences 2"}, std::string{"--first 3"}, std::string{"--context 1"}}) {
    CAPTURE(each);
    support::check_refused(run_klens("rank " + quoted(path) + " --generate 64 " + each),
                           each == "--context 1" ? "generated" : "excludes");
  }
  support::check_refused(run_klens("rank " + quoted(path) + " --generate 1"), "--generate");
  support::check_refused(run_klens("rank " + quoted(path) + " --generated " + quoted(scratch("x"))), "requires --generate");
}

TEST_CASE("klens-llama --generate: a model whose logits are not finite is refused before the scan") {
  const auto no_angle = [](gguf_context* file) { gguf_set_val_f32(file, "llama.rope.freq_base", NAN); };
  const std::filesystem::path path = written({.also = no_angle}, "broken.gguf"), kept = scratch("never.safetensors");
  support::check_refused(run_klens("rank " + quoted(path) + " --generate 64 --generated " + quoted(kept)),
                         "the model's logits are not finite after 1 tokens of its own");
  CHECK_FALSE(std::filesystem::exists(kept));
}
