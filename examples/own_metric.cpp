// A metric of one's own: how much of the probability mass moves? (Total variation, half the L1 distance of P and Q.)
#include <cmath>
#include <cstdio>
#include <klens/klens.hpp>

struct total_variation {
  static constexpr std::string_view name = "total_variation";
  static constexpr std::string_view unit = "share of probability";
  static constexpr bool higher_is_worse = true;

  double operator()(const klens::position& at) const {
    const double p_sum = klens::describe_reference(at.reference).log_sum_exp;
    const double q_sum = klens::describe_reference(at.observed).log_sum_exp;
    double moved = 0;
    for (std::size_t v = 0; v < at.reference.size(); ++v)
      moved += std::abs(std::exp(at.reference[v] - p_sum) - std::exp(at.observed[v] - q_sum));
    return moved / 2;
  }
};
static_assert(klens::metric<total_variation>);

int main() {
  klens::matrix<float> head{{2, 0.3f, -1}, {0.7f, 1, 0.2f}, {-0.4f, 0.1f, 0.9f}};  // [vocabulary x in]
  const klens::matrix<float> x{{1, 1, 1}, {1, 0, 2}};                              // [tokens x in]
  std::vector<klens::layer> layers{{"head", head}};
  const auto forward = [&]() -> klens::matrix<float> { return x * head.transpose(); };

  const auto scores =
      klens::rank_layers(layers, forward, {"int2-channel", "int3-g3", "bf16"}, {total_variation{}, klens::kl{}});
  for (const klens::layer_score* each : scores.ranked("total_variation"))
    std::printf("%-12s moves %.4f of the mass, costs %.6f nats/token\n", each->scheme.c_str(), each->metrics[0].mean,
                each->metrics[1].mean);
}
