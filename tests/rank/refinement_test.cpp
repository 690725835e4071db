#include <klens/rank/local/refinement.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <support/near.hpp>
#include <vector>

using klens::contribution;
using klens::detail::belief;
using klens::detail::refinement;

namespace {

belief about(double log_mean, double variance) {
  const double spread = std::sqrt(variance);
  return {log_mean, variance, {log_mean - spread, log_mean + spread}};
}

const klens::detail::sequence_spread known{2e13, 1e15};  // a variance of 0.02 that no test moves

// Two sequences of ten positions each, of that mean KL.
std::vector<contribution> measured(double kl) {
  std::vector<contribution> sums;
  for (int s = 0; s < 2; ++s) sums.emplace_back(10 * kl, 10);
  return sums;
}

klens::scores candidates_of_one_scheme(std::size_t count) {
  klens::scores all;
  for (std::size_t c = 0; c < count; ++c) all.candidates.emplace_back().scheme = "int4-channel";
  return all;
}

}  // namespace

TEST_CASE("sequence_spread: what is common to all candidates does not count, what is not is measured around it") {
  const auto candidate = [](double size, double first, double second) {
    return std::vector<contribution>{{size * first, 1}, {size * second, 1}};
  };
  klens::detail::sequence_spread spread;
  spread.add({candidate(3, 0.5, 1.5), candidate(40, 0.5, 1.5)});  // the same sequence is hard for both
  CHECK(spread.squares == near{0, 0, 1e-15});
  CHECK(spread.dof == 1);
  spread.add({candidate(1, 0.9, 1.1), candidate(1, 1.1, 0.9)});  // each moves by 0.1 around what both do, on two sequences
  CHECK(spread.squares == near{4 * 0.01, 1e-12});
  CHECK(spread.dof == 2);
  CHECK(spread.variance() == near{0.02, 1e-12});
  spread.add({candidate(1, 0, 0), candidate(1, 1, 2)});  // a single one that says something has nobody to be compared with
  CHECK(spread.dof == 2);
}

TEST_CASE("refinement: sequences that are hard for all alike move nobody") {
  refinement refined{{about(-3, 0.04), about(-4, 0.04), about(-5, 0.04)}, known, 1};
  refined.learn({{0, measured(std::exp(-3 + 0.7))}, {1, measured(std::exp(-4 + 0.7))}});
  CHECK(refined.of(0).log_mean == near{-3, 0, 1e-12});
  CHECK(refined.of(1).log_mean == near{-4, 0, 1e-12});
  CHECK(refined.of(2).log_mean == -5);  // not measured
}

TEST_CASE("refinement: belief and measurement are joined by the inverses of their variances") {
  // Two sequences of variance 0.02 each: 0.01 for their mean. Beliefs of variance 0.04 keep 0.01 / 0.05 of themselves.
  refinement refined{{about(-3, 0.04), about(-3, 0.04)}, known, 1};
  refined.learn({{0, measured(std::exp(-3 + 0.5))}, {1, measured(std::exp(-3 - 0.5))}});  // equally hard: 0 on average
  CHECK(refined.of(0).log_mean == near{-3 + 0.8 * 0.5, 0, 1e-12});
  CHECK(refined.of(1).log_mean == near{-3 - 0.8 * 0.5, 0, 1e-12});
  CHECK(refined.of(0).variance == near{0.04 * 0.2, 1e-12});
}

TEST_CASE("refinement: what is 0 or infinite teaches nothing and breaks nothing") {
  refinement refined{{about(-3, 0.04), about(-3, 0.04), about(-2, 0.04)}, known, 1};
  refined.learn({{0, measured(0)}, {1, measured(HUGE_VAL)}, {2, measured(std::exp(-2))}});
  CHECK(refined.of(0).log_mean == -3);
  CHECK(refined.of(1).log_mean == -3);
  CHECK(refined.of(2).log_mean == near{-2, 0, 1e-12});
}

TEST_CASE("refinement: those whose seat the draws dispute are worth measuring, the others are not") {
  const klens::any_stopping_rule rule = klens::top{2};
  // Draws go with the first or the second number of each: candidates 1 and 2 exchange their places, 0 and 3 never move.
  const std::vector<belief> beliefs{{0, 1, {0, 0}}, {-1, 1, {-1, -2}}, {-1.2, 1, {-2, -1}}, {-5, 1, {-5, -5}}};
  const refinement refined{beliefs, known, 1};
  const klens::scores found = candidates_of_one_scheme(4);
  const std::vector<std::size_t> open = refined.contested(found, rule, 0.99);
  REQUIRE(open.size() == 2);
  CHECK(open[0] + open[1] == 3);
  CHECK(open[0] * open[1] == 2);
  // One draw in two disputes the seats of two out of four: a quarter of all places. That much is tolerated at 0.87.
  CHECK(refined.contested(found, rule, 0.87).empty());
  CHECK(!refined.contested(found, rule, 0.88).empty());
}
