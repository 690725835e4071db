// Tokens that an IR samples itself.
#include "ir_sampler.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "support/surprise.hpp"
#include "test_models.hpp"

namespace {

using namespace openvino_adapter;
using programs::sample_tokens;

void check_draws(ir_model& model, const std::vector<std::int32_t>& tokens, std::size_t length) {
  const klens::matrix<float> logits = model.logits(tokens, length);
  const auto [excess, deviation] =
      support::surprise_of<std::int32_t>(tokens, length, std::span(logits.data(), static_cast<std::size_t>(logits.size())));
  CHECK(deviation > 1);
  CHECK(std::abs(excess) < 4 * deviation);  // a good program fails once in 16000 seeds, and this seed is fixed
}

}  // namespace

TEST_CASE("tokens are draws from the IR's own distribution, and depend on their seed alone") {
  ir_model one{check_ir(tied_model(), "model.xml"), 1}, three{check_ir(tied_model(), "model.xml"), 3};
  const std::vector<std::int32_t> tokens = sample_tokens(sampler_of(three, 3), 20, 16, 1);
  check_draws(one, tokens, 16);
  CHECK(sample_tokens(sampler_of(one, 1), 20, 16, 1) == tokens);
  const std::vector<std::int32_t> some = sample_tokens(sampler_of(one, 1), 4, 16, 1);
  CHECK(std::equal(some.begin(), some.end(), tokens.begin()));
  CHECK(sample_tokens(sampler_of(one, 1), 20, 16, 2) != tokens);
}

TEST_CASE("the shipped IR, which takes lengths of its own, is asked for no other") {
  ir_model model{read_ir(std::string{KLENS_EXAMPLE_DATA} + "/wikitext-parallel-2m/ov/model.xml"), 2};
  check_draws(model, sample_tokens(sampler_of(model, 2), 4, 64, 1), 64);
}
