// A user: a researcher with Eigen. Everything in one expression where it can be.
#include <klens/klens.hpp>

#include <doctest/doctest.h>

namespace {

using weights = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct total_variation {
  static constexpr const char* name = "tv";
  static constexpr const char* unit = "probability";
  static constexpr bool higher_is_worse = true;
  double operator()(const klens::position& at) const {
    const double p = klens::log_sum_exp(at.reference), q = klens::log_sum_exp(at.observed);
    double sum = 0;
    for (std::size_t v = 0; v < at.reference.size(); ++v)
      sum +=
          std::abs(std::exp(static_cast<double>(at.reference[v]) - p) - std::exp(static_cast<double>(at.observed[v]) - q)) / 2;
    return sum;
  }
};

}  // namespace

TEST_CASE("a researcher ranks two matrices, without ceremony") {
  std::srand(1);
  weights up = weights::Random(16, 8), down = weights::Random(5, 16);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(6, 8);
  const auto forward = [&]() -> Eigen::MatrixXf { return (x * up.transpose()).cwiseMax(0) * down.transpose(); };

  const auto scores =
      klens::rank_layers({{"up", up}, {"down", down}}, forward, klens::int4{.group_size = 8}, total_variation{});
  REQUIRE(scores.candidates.size() == 2);
  CHECK(scores.candidates[0].metrics[0].mean > 0);
  CHECK(scores.candidates[0].metrics[0].mean < 1);

  // One layer, one scheme by name, the default metric; then half of the same matrix.
  klens::layer only{"up", up};
  CHECK(klens::rank_layers(only, forward, "int8-channel").candidates[0].metrics[0].mean > 0);
  CHECK(klens::rank_layers({{"up[upper]", up.topRows(8)}}, forward, "int4-g8").candidates[0].rows == 8);

  klens::rank_options options;
  options.metrics = {klens::kl{}, klens::sqnr{}, total_variation{}};
  CHECK(klens::rank_layers({{"up", up}}, forward, {"int4-g8", klens::fp16{}}, options).metrics.size() == 3);
}
