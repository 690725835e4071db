#include <klens/stats/rank_correlation.hpp>

#include <doctest/doctest.h>

#include <klens/detail/random.hpp>
#include <limits>
#include <vector>

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double missing = std::numeric_limits<double>::quiet_NaN();

// The definition, pair by pair.
double tau_by_definition(const std::vector<double>& a, const std::vector<double>& b) {
  long long concordant = 0, discordant = 0, only_a = 0, only_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = i + 1; j < a.size(); ++j) {
      const int in_a = (a[i] > a[j]) - (a[i] < a[j]), in_b = (b[i] > b[j]) - (b[i] < b[j]);
      concordant += in_a * in_b > 0;
      discordant += in_a * in_b < 0;
      only_a += in_a != 0 && in_b == 0;
      only_b += in_a == 0 && in_b != 0;
    }
  const auto untied = static_cast<double>(concordant + discordant);
  return static_cast<double>(concordant - discordant) /
         std::sqrt((untied + static_cast<double>(only_a)) * (untied + static_cast<double>(only_b)));
}

std::vector<double> random_scores(klens::detail::random_stream& random, std::size_t count, std::size_t different) {
  std::vector<double> scores(count);
  for (double& each : scores) each = static_cast<double>(random.below(different));
  return scores;
}

}  // namespace

TEST_CASE("kendall: counted by hand") {
  const std::vector<double> a{1, 2, 3, 4}, reverse{4, 3, 2, 1}, one_swap{1, 3, 2, 4};
  CHECK(klens::kendall_tau(a, a).value == 1);
  CHECK(klens::kendall_tau(a, reverse).value == -1);
  CHECK(klens::kendall_tau(a, one_swap).value == 4.0 / 6.0);  // 5 concordant, 1 discordant
  // 4 concordant, none discordant, one pair tied in the first, one in the second: 4 / sqrt(5 * 5)
  CHECK(klens::kendall_tau(std::vector<double>{1, 1, 2, 3}, std::vector<double>{1, 2, 3, 3}).value == 4.0 / 5.0);
  // a pair tied in both lists counts in neither factor: 5 / sqrt(5 * 5)
  CHECK(klens::kendall_tau(std::vector<double>{1, 1, 2, 3}, std::vector<double>{5, 5, 7, 9}).value == 1);
}

TEST_CASE("kendall: equals its definition for every length and amount of ties") {
  klens::detail::random_stream random{11};
  for (const std::size_t count : {2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 200})
    for (const std::size_t different : {2, 3, 10, 1000000}) {
      const auto a = random_scores(random, count, different), b = random_scores(random, count, different);
      const double expected = tau_by_definition(a, b);
      const double tau = klens::kendall_tau(a, b).value;
      CAPTURE(count);
      CAPTURE(different);
      if (std::isnan(expected))
        CHECK(std::isnan(tau));
      else
        CHECK(tau == expected);
      CHECK((klens::kendall_tau(b, a).value == tau || std::isnan(tau)));
    }
}

TEST_CASE("kendall: candidates without a score are left out and counted") {
  const auto found = klens::kendall_tau(std::vector<double>{1, missing, 2, 3, 4}, std::vector<double>{1, 9, 2, missing, 3});
  CHECK(found.value == 1);
  CHECK(found.used == 3);
  CHECK(found.left_out == 2);
}

TEST_CASE("kendall: infinite scores are extreme scores") {
  CHECK(klens::kendall_tau(std::vector<double>{-inf, 0, 5, inf}, std::vector<double>{1, 2, 3, 4}).value == 1);
  CHECK(klens::kendall_tau(std::vector<double>{inf, inf, 1, 0}, std::vector<double>{4, 3, 2, 1}).value ==
        5 / std::sqrt(5 * 6.0));
}

TEST_CASE("kendall: nothing to compare is NaN") {
  const std::vector<double> none, one{1}, same{2, 2, 2}, all{1, 2, 3};
  CHECK(std::isnan(klens::kendall_tau(none, none).value));
  CHECK(std::isnan(klens::kendall_tau(one, one).value));
  CHECK(std::isnan(klens::kendall_tau(same, all).value));
  CHECK(std::isnan(klens::kendall_tau(all, same).value));
  CHECK(std::isnan(klens::kendall_tau(std::vector<double>{1, missing}, std::vector<double>{1, 2}).value));
}

TEST_CASE("kendall: lists of different lengths are refused, both lengths named") {
  CHECK_THROWS_WITH_AS((void)klens::kendall_tau(std::vector<double>{1, 2}, std::vector<double>{1, 2, 3}),
                       "kendall_tau: the first list has 2 scores, the second 3; give one score for each candidate in both",
                       klens::shape_error);
}
