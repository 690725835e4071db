#include <klens/rank/local/local_batch.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "support/near.hpp"

using klens::detail::noisy_means;
using klens::detail::position_weights;
using klens::detail::values_by_candidate;

TEST_CASE("position_weights: how much more the KL of a position moves than that of others, by the median of candidates") {
  values_by_candidate energies, kls;
  for (std::size_t c = 0; c < 7; ++c) {
    const double size = 1 + static_cast<double>(c);
    energies[c] = {9, size, size, 2 * size, size};
    kls[c] = {9, 0.5 * size, 1.5 * size, 2 * size, size};  // positions 1 .. 4 move by 0.5, 1.5, 1 and 1 for their energy
  }
  kls[0][2] = 1000;               // one candidate's own trouble
  energies[7] = {9, 1, 2, 3, 4};  // was not measured
  const std::vector<double> weights = position_weights(energies, kls, 1, 4);
  REQUIRE(weights.size() == 4);
  CHECK(weights[0] == near{0.5, 1e-12});
  CHECK(weights[1] == near{1.5, 1e-12});
  CHECK(weights[2] == near{1, 1e-12});
  CHECK(weights[3] == near{1, 1e-12});
}

TEST_CASE("position_weights: fewer than five candidates, or such as say nothing, weigh no position") {
  values_by_candidate energies, kls;
  for (std::size_t c = 0; c < 4; ++c) {
    energies[c] = {1, 1};
    kls[c] = {1, 3};
  }
  for (std::size_t c = 4; c < 8; ++c) {
    energies[c] = {1, 1};
    kls[c] = {c % 2 ? 0. : HUGE_VAL, 0};
  }
  CHECK(position_weights(energies, kls, 0, 2) == std::vector<double>{1, 1});
  kls[4] = {1, 3};
  CHECK(position_weights(energies, kls, 0, 2) == std::vector<double>{0.5, 1.5});
}

TEST_CASE("noisy_means: weighted means, and the relative variance of blocks without what all have in common") {
  // 16 positions: eight blocks of two. All candidates have twice as much in the last half; the third one alone also jumps.
  values_by_candidate values;
  for (std::size_t c = 0; c < 3; ++c) {
    const double size = std::pow(10, static_cast<double>(c));
    for (std::size_t t = 0; t < 16; ++t) values[c].push_back(size * (t < 8 ? 1 : 2));
  }
  const std::vector<double> even(16, 1.0);
  auto means = noisy_means(values, even, 0);
  REQUIRE(means.size() == 3);
  CHECK(means[1].value == near{15, 1e-12});
  for (auto& [c, mean] : means) CHECK(mean.variance == 1e-6);  // nothing of their own but rounding
  values[2][5] += 24 * 100;                                    // doubles its sum
  means = noisy_means(values, even, 0);
  // Shares of blocks: 1/12 and 1/6 for two of them; 1/24, 1/12 and, where it jumps, 13/24 for the third. What they have in common:
  // 5/72, 5/36, and 17/72.
  const double usual = 8. / 7 * 3 / 2 * (3 * std::pow(1. / 72, 2) + std::pow(11. / 72, 2) + 4 * std::pow(2. / 72, 2));
  const double jumped = 8. / 7 * 3 / 2 * (3 * std::pow(2. / 72, 2) + std::pow(22. / 72, 2) + 4 * std::pow(4. / 72, 2));
  CHECK(means[0].variance == near{usual, 1e-12});  // 7 + 4 parts of itself, the median
  CHECK(means[2].variance == near{(7 * jumped + 4 * usual) / 11, 1e-12});
  std::vector<double> some(16, 0.0);
  some[5] = 16;
  CHECK(noisy_means(values, some, 0)[2].value == near{2500, 1e-12});
}

TEST_CASE("noisy_means: what is 0 or infinite has none; one candidate, or one position, has no spread to show") {
  const values_by_candidate values{{0, {0, 0}}, {1, {1, HUGE_VAL}}, {2, {1, 2}}};
  const auto means = noisy_means(values, {1, 1}, 0);
  REQUIRE(means.size() == 1);
  CHECK(means.at(2).value == 1.5);
  CHECK(means.at(2).variance == 0.25);
  CHECK(noisy_means({{0, {1}}, {1, {2}}}, {1}, 0).at(1).variance == 0.25);
}
