// docs/theory.md, section 5: when damages of single layers add up.
#include "logits.hpp"

#include <doctest/doctest.h>

using namespace theory;

TEST_CASE("theory 5.1: the joint KL is the sum, plus a covariance, made-up logits") {
  klens::detail::random_stream random{51};
  for (const double scale : {1e-3, 0.03, 0.3}) {
    const row x = normal_row(random, 300, 2), by_a = normal_row(random, 300, scale), by_b = normal_row(random, 300, scale);
    const row a = moved(x, by_a), b = moved(x, by_b), joint = moved(a, by_b);
    const list p = softmax(x), delta_a = difference(x, a), delta_b = difference(x, b), delta = difference(x, joint);
    const double predicted = kl(x, a) + kl(x, b) + covariance(p, delta_a, delta_b);
    // each of the three KLs is half a variance within the factors of 1.2
    const double r = std::max({range(delta_a), range(delta_b), range(delta)});
    const double slack = (growth(r) - growth(-r)) * (kl(x, a) + kl(x, b) + kl(x, joint));
    CHECK(std::abs(kl(x, joint) - predicted) <= slack + 1e-5 * predicted);
  }
}

TEST_CASE("theory 5.1: real layers, with what the network adds to the sum of their errors") {
  const rows reference = real_logits("reference"), a = real_logits("int4_a"), b = real_logits("int4_b"),
             ab = real_logits("int4_ab");
  double sum = 0, cross = 0, joint = 0, rest = 0;
  for (std::size_t t = 0; t < reference.size(); ++t) {
    const list p = softmax(reference[t]), delta_a = difference(reference[t], a[t]), delta_b = difference(reference[t], b[t]);
    list interaction = difference(reference[t], ab[t]);
    for (std::size_t v = 0; v < p.size(); ++v) interaction[v] -= delta_a[v] + delta_b[v];
    list both = delta_a;
    for (std::size_t v = 0; v < p.size(); ++v) both[v] += delta_b[v];
    sum += kl(reference[t], a[t]) + kl(reference[t], b[t]);
    cross += covariance(p, delta_a, delta_b);
    rest += covariance(p, both, interaction) + variance(p, interaction) / 2;
    joint += kl(reference[t], ab[t]);
  }
  CHECK(std::abs(joint / (sum + cross + rest) - 1) < 0.03);  // what is left is beyond second order
  CHECK(std::abs(joint / sum - 1) < 0.15);
  CHECK(std::abs(cross) < 0.15 * sum);
}

TEST_CASE("theory 5.2: roots of KL obey the triangle inequality to second order, and both ends are reached") {
  klens::detail::random_stream random{52};
  const row x = normal_row(random, 300, 2), by = normal_row(random, 300, 0.01);
  const double one = kl(x, moved(x, by));
  CHECK(std::abs(kl(x, moved(x, by, 2)) / (4 * one) - 1) < 0.02);  // the same error twice: 4 times, not 2
  CHECK(kl(x, moved(moved(x, by), by, -1)) < 1e-6 * one);          // and its opposite: nothing

  const rows reference = real_logits("reference"), a = real_logits("int4_a"), b = real_logits("int4_b");
  for (std::size_t t = 0; t < reference.size(); ++t) {
    row both = a[t];
    for (std::size_t v = 0; v < both.size(); ++v) both[v] += b[t][v] - reference[t][v];
    const double root_a = std::sqrt(kl(reference[t], a[t])), root_b = std::sqrt(kl(reference[t], b[t]));
    const double joint = std::sqrt(kl(reference[t], both));
    CHECK(joint <= (root_a + root_b) * 1.05);
    CHECK(joint >= std::abs(root_a - root_b) * 0.95);
  }
}

TEST_CASE("theory 5.3: uncorrelated errors add up") {
  klens::detail::random_stream random{53};
  constexpr int layers = 32, positions = 40;
  double joint = 0, sum = 0;
  for (int t = 0; t < positions; ++t) {
    const row x = normal_row(random, 200, 2);
    row all = x;
    for (int l = 0; l < layers; ++l) {
      const row by = normal_row(random, x.size(), 0.005 * (1 + l % 4));
      sum += kl(x, moved(x, by));
      all = moved(all, by);
    }
    joint += kl(x, all);
  }
  CHECK(std::abs(joint / sum - 1) < 0.1);
}
