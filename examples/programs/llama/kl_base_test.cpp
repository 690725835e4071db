#include "kl_base.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <klens/error.hpp>
#include <klens/io/scores_json.hpp>

#include "ggml_format.hpp"
#include "gguf_model.hpp"
#include "llama_test.hpp"
#include "support/near.hpp"

namespace {

using namespace llama_adapter;

constexpr std::uint32_t length = 6, sequences = 2, vocabulary = 11;
constexpr double deepest = 16, steps = 65535;

// The probabilities of row r: 2^-1, 2^-2, ... 2^-10, 2^-10, from another token on in each row.
double probability(std::size_t r, std::size_t v) {
  return std::pow(0.5, static_cast<double>(std::min<std::size_t>((v + r) % vocabulary + 1, 10)));
}

template <class Number>
void append(std::string& bytes, Number value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// A base file as llama-perplexity lays it out, made without klens: the positions 3 and 4 of two sequences of 6 tokens, each as
// scale, least log-probability, 11 codes and one that fills up. The steps span the whole depth of the format.
std::string hand_made(std::uint32_t claimed_sequences = sequences, std::int32_t last_token = 1) {
  std::string bytes = "_logits_";
  for (const std::uint32_t each : {length, vocabulary, claimed_sequences}) append(bytes, each);
  std::vector<std::int32_t> tokens = some_tokens(length * sequences);
  tokens.back() = last_token;
  for (const std::int32_t each : tokens) append(bytes, each);
  for (std::size_t r = 0; r < 4; ++r) {
    const double least = std::log(0.5) - deepest;
    append(bytes, static_cast<float>(deepest / steps));
    append(bytes, static_cast<float>(least));
    for (std::size_t v = 0; v < vocabulary; ++v)
      append(bytes, static_cast<std::uint16_t>(std::lround((std::log(probability(r, v)) - least) / (deepest / steps))));
    append(bytes, std::uint16_t{0});
  }
  return bytes;
}

void write_base(const std::string& bytes) { std::ofstream{scratch("base.kld"), std::ios::binary} << bytes; }

std::string rank(const std::filesystem::path& model, const std::string& options = "") {
  return "rank " + support::quoted(model) + " --kl-divergence-base " + support::quoted(scratch("base.kld")) +
         " --types q4_0 --tensors blk.0.ffn_up --metrics kl --output " + support::quoted(scratch("base.json")) + " " + options;
}

}  // namespace

TEST_CASE("a base file gives back log-probabilities to half a step of its 16 bits") {
  const programs::token_set tokens{some_tokens(12), 2, 6};
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
  CHECK_THROWS_AS(kl_base{written(tiny_model{})}, klens::file_error);
}

TEST_CASE("klens-llama rank --kl-divergence-base: KL from the probabilities of a file made by hand") {
  const std::filesystem::path path = written(tiny_model{});
  write_base(hand_made());
  const auto result = support::run_klens(rank(path));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(holds(result.output, "the reference is a base file"));
  const klens::scores scores = klens::read_scores(scratch("base.json")).result;
  REQUIRE(scores.candidates.size() == 1);
  CHECK(scores.candidates[0].positions == 4);

  const gguf_file file{path};
  gguf_model model{file, arithmetic::floats, {}};
  std::vector<klens::layer> layers = model.layers();
  klens::layer& up = named(layers, "blk.0.ffn_up.weight");
  klens::matrix<float> weights = up.load();
  for (Eigen::Index r = 0; r < weights.rows(); ++r)
    ggml_format{"q4_0"}.round_trip(klens::row(weights, r), klens::row(weights, r));
  up.store(weights);
  std::vector<std::int32_t> tokens = some_tokens(length * sequences);
  tokens.back() = 1;
  const klens::matrix<double> logits = model.logits(tokens, length).cast<double>();
  double sum = 0, sensitivity = 0;
  for (std::size_t r = 0; r < 4; ++r) {
    const auto row = logits.row(static_cast<Eigen::Index>(r / 2 * length + 3 + r % 2));
    const double log_sum = std::log(row.array().exp().sum());
    for (std::size_t v = 0; v < vocabulary; ++v) {
      const double ratio = std::log(probability(r, v)) - (row(static_cast<Eigen::Index>(v)) - log_sum);
      sum += probability(r, v) * ratio;
      sensitivity += probability(r, v) * std::abs(ratio);
    }
  }
  // Half a step in every log-probability changes the probabilities by a whole one at most, their sum being 1 again; the second
  // term is what floats of up to 17 round of it.
  const double step = deepest / steps + 4 * 17 * 6e-8;
  CHECK(scores.candidates[0].metrics[0].mean == near{sum / 4, 1e-5, step * sensitivity / 4 * (1 + step)});
}

TEST_CASE("klens-llama rank: base files that are cut short, hostile or of another model are refused") {
  const std::filesystem::path path = written(tiny_model{});
  std::filesystem::remove(scratch("base.json"));
  const std::string whole = hand_made();
  for (const std::size_t kept : {std::size_t{0}, std::size_t{7}, std::size_t{19}, std::size_t{40}, whole.size() - 1}) {
    CAPTURE(kept);
    write_base(whole.substr(0, kept));
    support::check_refused(support::run_klens(rank(path)), kept < 20 ? "is no base file of" : "is cut short or damaged");
  }
  write_base(whole + "x");
  support::check_refused(support::run_klens(rank(path)), "is cut short or damaged");
  write_base(hand_made(0xffffffff));
  support::check_refused(support::run_klens(rank(path)), "has 4294967295 sequences of 6 tokens out of 11; that is damaged");
  write_base(hand_made(1u << 24));
  support::check_refused(support::run_klens(rank(path)), "is cut short or damaged");
  write_base(hand_made(sequences, 11));
  support::check_refused(support::run_klens(rank(path)), "holds token 11 outside its vocabulary of 11");
  write_base(hand_made(sequences, -1));
  support::check_refused(support::run_klens(rank(path)), "holds token -1 outside");
  std::string short_sequences = whole;
  short_sequences[8] = 2;
  write_base(short_sequences);
  support::check_refused(support::run_klens(rank(path)), "has 2 sequences of 2 tokens");
  write_base(whole);
  support::check_refused(support::run_klens(rank(path, "--file " + support::quoted(path))), "brings its tokens along");
  support::check_refused(support::run_klens(rank(path, "--from quantized")), "not together with --from quantized");
  support::check_refused(support::run_klens(rank(written({.words = 12}))), "has a vocabulary of 11, the model of 12");
  CHECK_FALSE(std::filesystem::exists(scratch("base.json")));
}
