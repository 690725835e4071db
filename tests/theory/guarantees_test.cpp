// docs/theory.md, section 3: what a small KL guarantees.
#include "logits.hpp"

#include <doctest/doctest.h>

using namespace theory;

namespace {

// The least KL(P || Q) of any Q whose largest probability is not that of P's largest.
double top_threshold(list p) {
  std::ranges::sort(p, std::ranges::greater{});
  const double a = p[0], b = p[1], middle = (a + b) / 2;
  return a * std::log(a / middle) + b * std::log(b / middle);
}

std::size_t top(const row& x) { return static_cast<std::size_t>(std::ranges::max_element(x) - x.begin()); }

}  // namespace

TEST_CASE("theory 3.1: Pinsker, and Bretagnolle and Huber") {
  klens::detail::random_stream random{31};
  const auto holds = [](const row& x, const row& y) {
    const double found = kl(x, y), apart = total_variation(softmax(x), softmax(y));
    CHECK(apart <= std::sqrt(found / 2) * (1 + 1e-5) + 1e-9);
    CHECK(apart <= std::sqrt(-std::expm1(-found)) * (1 + 1e-5) + 1e-9);
  };
  for (const double scale : {0.01, 0.3, 3.0, 30.0})
    for (int i = 0; i < 20; ++i) {
      const row x = normal_row(random, 40, 2);
      holds(x, moved(x, normal_row(random, 40, 1), scale));
    }
  const row even{0, 0}, uneven{0.02f, -0.02f};  // Pinsker's constant is the best there is
  CHECK(std::abs(total_variation(softmax(even), softmax(uneven)) / std::sqrt(kl(even, uneven) / 2) - 1) < 1e-3);
  const rows reference = real_logits("reference");
  for (const char* name : {"int8_a", "int4_a", "int4_b", "int4_ab", "int2_a"}) {
    const rows observed = real_logits(name);
    double mean_kl = 0, mean_apart = 0;
    for (std::size_t t = 0; t < reference.size(); ++t) {
      holds(reference[t], observed[t]);
      mean_kl += kl(reference[t], observed[t]) / static_cast<double>(reference.size());
      mean_apart += total_variation(softmax(reference[t]), softmax(observed[t])) / static_cast<double>(reference.size());
    }
    CHECK(mean_apart <= std::sqrt(mean_kl / 2));       // also for means over positions
    CHECK(mean_apart > 0.3 * std::sqrt(mean_kl / 2));  // and no empty promise
  }
}

TEST_CASE("theory 3.2: no bounded score moves by more than its range times the total variation") {
  klens::detail::random_stream random{32};
  const rows reference = real_logits("reference"), observed = real_logits("int4_ab");
  for (std::size_t t = 0; t < reference.size(); ++t) {
    const list p = softmax(reference[t]), q = softmax(observed[t]);
    const row drawn = normal_row(random, p.size(), 1);
    const list score(drawn.begin(), drawn.end());
    CHECK(std::abs(dot(p, score) - dot(q, score)) <= range(score) * std::sqrt(kl(reference[t], observed[t]) / 2));
  }
}

TEST_CASE("theory 3.3: the first choice cannot change below a threshold that the reference tells") {
  const rows reference = real_logits("reference");
  int changed = 0;
  for (const char* name : {"int4_a", "int4_b", "int4_ab", "int2_a"}) {
    const rows observed = real_logits(name);
    for (std::size_t t = 0; t < reference.size(); ++t)
      if (top(reference[t]) != top(observed[t])) {
        ++changed;
        CHECK(kl(reference[t], observed[t]) >= top_threshold(softmax(reference[t])) * (1 - 1e-5));
      }
  }
  CHECK(changed >= 4);  // it was tried

  klens::detail::random_stream random{33};
  changed = 0;
  for (int i = 0; i < 2000; ++i) {
    const row x = normal_row(random, 6, 1), y = moved(x, normal_row(random, 6, 1), 0.7);
    if (top(x) == top(y)) continue;
    ++changed;
    list p = softmax(x);
    CHECK(kl(x, y) >= top_threshold(p) * (1 - 1e-5));
    std::ranges::sort(p, std::ranges::greater{});
    CHECK(kl(x, y) >= (p[0] - p[1]) * (p[0] - p[1]) / (2 * (p[0] + p[1])) * (1 - 1e-5));
  }
  CHECK(changed > 200);
}

TEST_CASE("theory 3.3: the threshold is attained by making the two first choices equal") {
  const row x{std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  row y = x;
  y[0] = y[1] = std::log(0.4f);
  CHECK(std::abs(kl(x, y) - top_threshold({0.5, 0.3, 0.2})) < 1e-7);
  for (const row& real : real_logits("reference")) {
    const list p = softmax(real);
    const std::size_t first = top(real);
    row others = real;
    others[first] = -1e30f;
    const std::size_t second = top(others);
    row tied = real;
    tied[first] = tied[second] = static_cast<float>(real[first] + std::log((1 + p[second] / p[first]) / 2));
    CHECK(std::abs(kl(real, tied) - top_threshold(p)) < 1e-5 * top_threshold(p) + 1e-9);
  }
}
