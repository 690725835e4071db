// docs/theory.md, section 2: KL is the expected change in cross entropy, without the noise of the next token.
#include "logits.hpp"

#include <doctest/doctest.h>

#include <klens/metric/metrics.hpp>
#include <support/near.hpp>

using namespace theory;

namespace {

// Delta(v) = ln P(v) - ln Q(v) for every token v, as klens' metric gives it.
list changes(const row& x, const row& y) {
  const auto found = damage(x, y);
  list delta_ce(x.size());
  for (std::size_t v = 0; v < x.size(); ++v) delta_ce[v] = klens::contribution{klens::delta_ce{}({x, y, v, found})}.value;
  return delta_ce;
}

}  // namespace

TEST_CASE("theory 2.1: the mean change under P is KL") {
  const rows reference = real_logits("reference");
  for (const char* name : {"int8_a", "int4_a", "int2_a"}) {
    const rows observed = real_logits(name);
    for (std::size_t t = 0; t < reference.size(); ++t) {
      const list p = softmax(reference[t]), change = changes(reference[t], observed[t]);
      const double found = kl(reference[t], observed[t]);
      // float lanes: the change of the partition sum, common to all tokens, is good to 1e-7 of what it is made of
      CHECK(std::abs(dot(p, change) - found) < 1e-5 * found + 1e-7 * range(change));
    }
  }
}

TEST_CASE("theory 2.2: under another distribution the difference is bounded, to first order in the error") {
  klens::detail::random_stream random{22};
  const rows reference = real_logits("reference"), observed = real_logits("int4_a");
  for (std::size_t t = 0; t < reference.size(); ++t) {
    const list p = softmax(reference[t]), change = changes(reference[t], observed[t]);
    const double found = kl(reference[t], observed[t]);
    for (const double sharpness : {0.7, 0.95, 1.3}) {  // the text follows a hotter or colder model, with noise of its own
      row other = normal_row(random, p.size(), 0.3);
      for (std::size_t v = 0; v < p.size(); ++v) other[v] += static_cast<float>(sharpness) * reference[t][v];
      const list truth = softmax(other);
      double chi_square = -1;
      for (std::size_t v = 0; v < p.size(); ++v) chi_square += truth[v] * truth[v] / p[v];
      const double apart = std::abs(dot(truth, change) - found);
      CHECK(apart <= total_variation(truth, p) * range(change) * (1 + 1e-9));
      CHECK(apart <= std::sqrt(chi_square * variance(p, change)) * (1 + 1e-6));
    }
  }
}

TEST_CASE("theory 2.2: both bounds are attained: mass moved from the smallest change to the largest, a tilt along the change") {
  const row x{std::log(0.5f), std::log(0.3f), std::log(0.2f)}, y = moved(x, {0.1f, -0.4f, 0.3f});
  const list p = softmax(x), change = changes(x, y);
  const double found = kl(x, y);
  list shifted = p;
  shifted[2] -= 0.05;  // its logit rose the most: the least ln P - ln Q
  shifted[1] += 0.05;
  CHECK(dot(shifted, change) - found == near{total_variation(shifted, p) * range(change), 1e-5});
  list tilted = p;
  double chi_square = 0;
  for (std::size_t v = 0; v < 3; ++v) {
    const double tilt = 0.2 * (change[v] - found);
    tilted[v] *= 1 + tilt;
    chi_square += p[v] * tilt * tilt;
  }
  CHECK(dot(tilted, change) - found == near{std::sqrt(chi_square * variance(p, change)), 1e-5});
}

TEST_CASE("theory 2.3: the noise of the next token has variance V, about 2 KL") {
  const rows reference = real_logits("reference");
  for (const auto& [name, tolerance] : {std::pair{"int8_a", 0.01}, std::pair{"int4_a", 0.07}}) {
    const rows observed = real_logits(name);
    for (std::size_t t = 0; t < reference.size(); ++t) {
      const list p = softmax(reference[t]), delta = difference(reference[t], observed[t]);
      const double noise = variance(p, changes(reference[t], observed[t]));
      CHECK(std::abs(noise / variance(p, delta) - 1) < 1e-5);
      CHECK(std::abs(noise / (2 * kl(reference[t], observed[t])) - 1) < tolerance);
    }
  }
}

TEST_CASE("theory 2.3 and 2.4: KL is the change in cross entropy, Rao-Blackwellized: same mean, less variance") {
  // Positions drawn from the real rows, next tokens drawn from P: the law of total variance, by simulation.
  klens::detail::random_stream random{23};
  const rows reference = real_logits("reference"), observed = real_logits("int4_a");
  std::vector<list> change, cumulative;
  list known;
  double noise = 0;
  for (std::size_t t = 0; t < reference.size(); ++t) {
    list p = softmax(reference[t]);
    change.push_back(changes(reference[t], observed[t]));
    noise += variance(p, change.back()) / static_cast<double>(reference.size());
    std::partial_sum(p.begin(), p.end(), p.begin());
    cumulative.push_back(p);
    known.push_back(kl(reference[t], observed[t]));
  }
  constexpr int draws = 200000;
  double sum = 0, squares = 0;
  for (int i = 0; i < draws; ++i) {
    const std::size_t t = random.below(reference.size());
    const auto token = std::ranges::upper_bound(cumulative[t], random.uniform() * cumulative[t].back()) - cumulative[t].begin();
    const double one = change[t][std::min<std::size_t>(static_cast<std::size_t>(token), change[t].size() - 1)];
    sum += one;
    squares += one * one;
  }
  const double mean = sum / draws, spread = squares / draws - mean * mean;
  const list equal(known.size(), 1.0 / static_cast<double>(known.size()));
  const double of_kl = variance(equal, known), of_change = of_kl + noise;
  CHECK(std::abs(mean - dot(equal, known)) < 5 * std::sqrt(of_change / draws));
  CHECK(std::abs(spread / of_change - 1) < 0.05);
  CHECK(of_change / of_kl > 100);  // so many times more tokens for the same standard error
}

TEST_CASE("theory 2.5: the text rewards what flattens an overconfident model") {
  const rows reference = real_logits("reference"), observed = real_logits("int2_a");
  for (std::size_t t = 0; t < reference.size(); ++t) {
    const list p = softmax(reference[t]), change = changes(reference[t], observed[t]);
    const list x{reference[t].begin(), reference[t].end()}, delta = difference(reference[t], observed[t]);
    const double flattening = -covariance(p, delta, x) / variance(p, x);
    list rest = delta;
    for (std::size_t v = 0; v < rest.size(); ++v) rest[v] += flattening * x[v];
    CHECK(std::abs(covariance(p, rest, x)) < 1e-9 * variance(p, x));
    for (const double sharpness : {0.7, 0.9, 1.2}) {  // of the text; below 1 the model is overconfident
      row of_text = reference[t];
      for (float& each : of_text) each *= static_cast<float>(sharpness);
      const list truth = softmax(of_text);
      const double overconfidence = dot(p, x) - dot(truth, x);  // cross entropy less entropy: ln of the sum cancels
      CHECK((overconfidence > 0) == (sharpness < 1));
      const double expected = -flattening * overconfidence - (dot(truth, rest) - dot(p, rest));
      const double found = kl(reference[t], observed[t]);
      CHECK(std::abs(dot(truth, change) - found - expected) < 1e-5 * found + 1e-7 * range(change));
    }
    // flattening alone: damage to the output, and yet a lower perplexity
    row flat = reference[t], of_text = reference[t];
    for (float& each : flat) each *= 0.95f;
    for (float& each : of_text) each *= 0.8f;
    CHECK(kl(reference[t], flat) > 0);
    CHECK(dot(softmax(of_text), changes(reference[t], flat)) < 0);
  }
}
