#include <klens/rank/local/refinement.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "support/near.hpp"

namespace {

klens::scores candidates_of_one_scheme(std::size_t count) {
  klens::scores all;
  for (std::size_t c = 0; c < count; ++c) {
    all.candidates.emplace_back().scheme = "int4-channel";
    all.candidates.back().result = klens::outcome::measured;
  }
  return all;
}

// Candidates 1 and 2 exchange their places in one draw of three, 0 and 3 never move.
const std::vector<std::vector<double>> draws{{0, -1, -2, -5}, {0, -1, -2, -5}, {0, -2, -1, -5}};

}  // namespace

TEST_CASE("refinement: those whose seat the draws dispute are worth measuring, the others are not") {
  const klens::any_stopping_rule rule = klens::top{2};
  const klens::scores found = candidates_of_one_scheme(4);
  const std::vector<std::size_t> open = klens::detail::contested(found, draws, {}, rule, 0.99);
  REQUIRE(open.size() == 2);
  CHECK(open[0] + open[1] == 3);
  CHECK(open[0] * open[1] == 2);
  // One draw in three disputes the seats of two out of four: a sixth of all places. That much is tolerated below 0.92.
  CHECK(klens::detail::contested(found, draws, {}, rule, 0.91).empty());
  CHECK(!klens::detail::contested(found, draws, {}, rule, 0.92).empty());
}

TEST_CASE("refinement: an exchange of seats between such as even the whole scan cannot tell apart is none") {
  const klens::any_stopping_rule rule = klens::top{2};
  const klens::scores found = candidates_of_one_scheme(4);
  // In the third draw candidates 1 and 2 stand a whole apart.
  CHECK(klens::detail::contested(found, draws, {0, 1.1, 1.1, 0}, rule, 0.99).empty());
  CHECK(klens::detail::contested(found, draws, {0, 0.9, 0.9, 0}, rule, 0.99).size() == 2);
  CHECK(klens::detail::contested(found, draws, {0, 1.1, 0.9, 0}, rule, 0.99) == std::vector<std::size_t>{2});
}

TEST_CASE("expected_tau: the average of tau between medians and draws, within schemes") {
  klens::scores found = candidates_of_one_scheme(4);
  // Two draws agree with the medians; one has a pair of six the wrong way round: tau 4/6.
  CHECK(klens::detail::expected_tau(found, draws) == near{(1 + 1 + 4. / 6) / 3, 1e-12});
  found.candidates[2].scheme = "int8-channel";  // now only 0, 1 and 3 are compared, and never change places
  CHECK(klens::detail::expected_tau(found, draws) == 1);
  found = candidates_of_one_scheme(4);
  found.candidates[1].result = klens::outcome::output_unchanged;  // unknown, not robust
  CHECK(klens::detail::expected_tau(found, draws) == 1);
  CHECK(std::isnan(klens::detail::expected_tau(candidates_of_one_scheme(1), {{0}, {1}})));
}
