#include "engine/model.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>

#include "folders.hpp"

using support::forward;
using support::golden;
using support::some_tokens;

namespace {

bool same_bits(const klens::matrix<float>& a, const klens::matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

const char* const types[] = {"bamba",
                             "falcon_h1",
                             "falcon_mamba",
                             "gemma3",
                             "hymba",
                             "jamba",
                             "jamba_moe",
                             "lfm2",
                             "llama",
                             "mamba",
                             "mamba2",
                             "nemotron_h",
                             "variants/nemotron_h_experts",
                             "qwen3",
                             "variants/granitemoehybrid_moe",
                             "variants/mistral_window",
                             "variants/olmo_hybrid_positive",
                             "variants/qwen2_windows",
                             "variants/qwen3_5_tied",
                             "variants/qwen3_next_experts",
                             "variants/smollm3_windows",
                             "variants/zamba2_two_blocks"};

/// Experts share a product with positions that another routing may bring or take away.
bool has_experts(std::string_view type) {
  return type == "jamba_moe" || type.ends_with("granitemoehybrid_moe") || type.ends_with("qwen3_next_experts") ||
         type.ends_with("nemotron_h_experts");
}

}  // namespace

TEST_CASE("a forward that goes on from a copied state gives the bits of the whole one") {
  for (const char* const type : types) {
    INFO(type);
    const programs::model model = programs::model::load(golden / type);
    const std::vector<std::int32_t> tokens = some_tokens(model, 3 * 21);
    const klens::matrix<float> whole = forward(model, tokens, 3);
    programs::state at = model.begin(tokens, 3, 21);
    for (std::size_t stage = 0; stage < model.stages(); ++stage) {
      programs::state resumed = at;
      for (std::size_t later = stage; later < model.stages(); ++later) model.advance(resumed, later);
      CHECK(same_bits(model.logits(resumed), whole));
      model.advance(at, stage);
    }
    CHECK(same_bits(model.logits(at), whole));
    CHECK(same_bits(model.logits(at), whole));  // which leaves the state as it is
  }
}

TEST_CASE("a sequence's bits depend neither on the batch nor on the threads") {
  for (const char* const type : types) {
    INFO(type);
    const programs::model model = programs::model::load(golden / type);
    for (const std::size_t length : {1u, 2u, 37u, 70u}) {
      const std::vector<std::int32_t> tokens = some_tokens(model, 5 * length);
      const klens::matrix<float> together = forward(model, tokens, 5);
      CHECK(same_bits(forward(model, tokens, 5, 3), together));
      for (std::size_t s = 0; s < 5; ++s) {
        const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(s * length);
        const klens::matrix<float> alone = forward(model, {first, first + static_cast<std::ptrdiff_t>(length)}, 1, 2);
        CHECK(same_bits(alone, together.middleRows(static_cast<Eigen::Index>(s * length), static_cast<Eigen::Index>(length))));
      }
    }
  }
}

TEST_CASE("no position sees a later one") {
  for (const char* const type : types) {
    INFO(type);
    const programs::model model = programs::model::load(golden / type);
    std::vector<std::int32_t> tokens = some_tokens(model, 40);
    const klens::matrix<float> before = forward(model, tokens, 1);
    for (std::size_t t = 25; t < 40; ++t)
      tokens[t] = static_cast<std::int32_t>((static_cast<std::size_t>(tokens[t]) + 1) % model.vocabulary());
    const klens::matrix<float> after = forward(model, tokens, 1);
    const float slack = has_experts(type) ? 1e-5f * before.cwiseAbs().maxCoeff() : 0.f;
    CHECK((before.topRows(25) - after.topRows(25)).cwiseAbs().maxCoeff() <= slack);
    CHECK(before.row(25) != after.row(25));
  }
}

TEST_CASE("logits of some positions are those of all, and do not depend on the threads") {
  const programs::model model = programs::model::load(golden / "falcon_h1");
  const std::vector<std::int32_t> tokens = some_tokens(model, 4 * 50);
  programs::state at = model.begin(tokens, 4, 50);
  for (std::size_t stage = 0; stage < model.stages(); ++stage) model.advance(at, stage);
  const klens::matrix<float> all = model.logits(at);
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < 150; ++i) rows.push_back((i * 77 + 3) % 200);
  const klens::matrix<float> some = model.logits(at, rows);
  REQUIRE(some.rows() == 150);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto r = static_cast<Eigen::Index>(rows[i]);
    CHECK((some.row(static_cast<Eigen::Index>(i)) - all.row(r)).cwiseAbs().maxCoeff() <= 2e-6f * all.cwiseAbs().maxCoeff());
  }
  CHECK(same_bits(model.logits(at, rows, 3), some));
  CHECK(model.logits(at, std::vector<std::size_t>{}).rows() == 0);
}

TEST_CASE("begin refuses tokens that are no sequences of this vocabulary") {
  const programs::model model = programs::model::load(golden / "mamba");
  const std::vector<std::int32_t> six{0, 1, 2, 3, 4, 96};
  CHECK(model.begin(six, 2, 3).length == 3);
  CHECK_THROWS_AS((void)model.begin(six, 2, 4), klens::shape_error);
  CHECK_THROWS_AS((void)model.begin(six, 0, 0), klens::shape_error);
  CHECK_THROWS_AS((void)model.begin(six, 6, 0), klens::shape_error);
  CHECK_THROWS_AS((void)model.begin(six, std::size_t{1} << 63, 2), klens::shape_error);
  CHECK_THROWS_AS((void)model.begin(std::vector<std::int32_t>{97}, 1, 1), klens::argument_error);
  CHECK_THROWS_AS((void)model.begin(std::vector<std::int32_t>{-1}, 1, 1), klens::argument_error);
}

TEST_CASE("a candidate of the embedded model that goes on at its own stage costs at most 0.6 forwards") {
  programs::model model = programs::model::load(std::filesystem::path(KLENS_EXAMPLE_DATA) / "wikitext-hybrid-4m");
  const auto from = [&](std::size_t first) {
    double sum = 0;
    for (std::size_t stage = first; stage <= model.stages(); ++stage) sum += model.flops(stage, 256);
    return sum;
  };
  double candidates = 0, total = 0;
  for (const programs::weight& each : model.weights()) {
    if (each.block < 0) continue;  // the embedding, whose candidates run the whole model
    total += from(each.stage) / from(0);
    ++candidates;
  }
  CHECK(candidates == 56);
  CHECK(total / candidates < 0.60);
  CHECK(total / candidates > 0.50);
}

TEST_CASE("flops are those of the products, by hand") {
  // jamba: width 48, inner 96, rank 3, 16 states, MLP 80, 4 heads of 12 with 2 key-value heads, vocabulary 97.
  const programs::model model = programs::model::load(golden / "jamba");
  const double mlp = 3 * 2.0 * 48 * 80, length = 37;
  CHECK(model.flops(0, 37) == 0);
  CHECK(model.flops(1, 37) == length * 2.0 * (192 * 48 + 35 * 96 + 96 * 3 + 48 * 96));
  CHECK(model.flops(2, 37) == length * mlp);
  CHECK(model.flops(3, 37) == length * 2.0 * (48 * 48 + 2 * 24 * 48 + 48 * 48) + 4 * length * length * 48);
  CHECK(model.flops(model.stages(), 37) == length * 2.0 * 97 * 48);
}
