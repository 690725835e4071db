// How tokens are drawn from what a model says follows, whichever engine runs it.
#include "token_sampler.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <klens/error.hpp>
#include <limits>
#include <set>
#include <vector>

namespace {

using programs::sample_tokens;
using programs::token_sampler;

constexpr std::array<std::array<double, 3>, 3> follows{{{0.7, 0.2, 0.1}, {0.05, 0.05, 0.9}, {0.5, 0.499, 0.001}}};

// A model that knows which token follows which, how often; and counts how many sequences were begun together.
struct chain {
  std::vector<std::size_t> begun = {};

  [[nodiscard]] token_sampler sampler() {
    token_sampler made{.vocabulary = 3};
    made.begin = [this](std::size_t sequences, std::size_t) {
      begun.push_back(sequences);
      return [](std::span<const std::int32_t> newest) {
        klens::matrix<float> logits(static_cast<Eigen::Index>(newest.size()), 3);
        for (Eigen::Index s = 0; s < logits.rows(); ++s)
          for (Eigen::Index i = 0; i < 3; ++i)  // a constant, which changes nothing, and the logarithm
            logits(s, i) =
                40 + static_cast<float>(std::log(
                         follows[static_cast<std::size_t>(newest[static_cast<std::size_t>(s)])][static_cast<std::size_t>(i)]));
        return logits;
      };
    };
    return made;
  }
};

}  // namespace

TEST_CASE("a token follows another one as often as the model says") {
  chain model;
  const std::size_t sequences = 300, length = 101;
  const std::vector<std::int32_t> tokens = sample_tokens(model.sampler(), sequences, length, 1);
  std::array<std::array<double, 3>, 3> seen{};
  std::array<double, 3> first{};
  for (std::size_t s = 0; s < sequences; ++s) {
    ++first[static_cast<std::size_t>(tokens[s * length])];
    for (std::size_t t = 1; t < length; ++t)
      ++seen[static_cast<std::size_t>(tokens[s * length + t - 1])][static_cast<std::size_t>(tokens[s * length + t])];
  }
  for (std::size_t from = 0; from < 3; ++from) {
    CHECK(std::abs(first[from] - 100) < 5 * std::sqrt(300 * (1.0 / 3) * (2.0 / 3)));  // any token begins a sequence
    const double count = seen[from][0] + seen[from][1] + seen[from][2];
    for (std::size_t to = 0; to < 3; ++to) {
      CAPTURE(from);
      CAPTURE(to);
      const double p = follows[from][to];
      CHECK(std::abs(seen[from][to] - p * count) < 5 * std::sqrt(p * (1 - p) * count));
    }
  }
}

TEST_CASE("a sequence depends on the seed and its place alone") {
  chain model;
  token_sampler sampler = model.sampler();
  const std::vector<std::int32_t> all = sample_tokens(sampler, 7, 30, 5);
  CHECK(model.begun == std::vector<std::size_t>{7});
  sampler.at_once = 3;
  sampler.threads = 3;
  CHECK(sample_tokens(sampler, 7, 30, 5) == all);
  CHECK(model.begun == std::vector<std::size_t>{7, 3, 3, 1});
  const std::vector<std::int32_t> two = sample_tokens(sampler, 2, 30, 5);
  CHECK(std::equal(two.begin(), two.end(), all.begin()));
  CHECK(sample_tokens(sampler, 7, 30, 6) != all);
  std::set<std::vector<std::int32_t>> different;
  for (auto at = all.begin(); at != all.end(); at += 30) different.emplace(at, at + 30);
  CHECK(different.size() == 7);
}

TEST_CASE("sequences begin with the beginning-of-text token where there is one") {
  chain model;
  token_sampler sampler = model.sampler();
  sampler.beginning = 2;
  const std::vector<std::int32_t> tokens = sample_tokens(sampler, 40, 2, 1);
  for (std::size_t s = 0; s < 40; ++s) CHECK(tokens[2 * s] == 2);
}

TEST_CASE("nothing is drawn from logits that are not finite") {
  for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
    token_sampler sampler{.vocabulary = 2};
    sampler.begin = [wrong](std::size_t sequences, std::size_t) {
      return [wrong, sequences, calls = 0](std::span<const std::int32_t>) mutable {
        klens::matrix<float> logits = klens::matrix<float>::Zero(static_cast<Eigen::Index>(sequences), 2);
        if (++calls == 3) logits(1, 0) = wrong;
        return logits;
      };
    };
    CHECK_THROWS_WITH_AS((void)sample_tokens(sampler, 2, 8, 1),
                         "the model's logits are not finite after 3 tokens of its own; its weights may be broken",
                         klens::numeric_error);
  }
}
