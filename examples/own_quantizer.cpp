// A quantizer of one's own: keep only the sign of each weight and one magnitude a row (as in XNOR-Net, arXiv:1603.05279).
#include <cmath>
#include <cstdio>
#include <klens/klens.hpp>
#include <string>

struct sign_only {
  [[nodiscard]] std::string name() const { return "sign-only"; }
  [[nodiscard]] std::size_t bytes(std::size_t columns) const { return (columns + 7) / 8 + sizeof(float); }

  void round_trip(std::span<const float> weights, std::span<float> kept) const {
    float magnitude = 0;
    for (const float w : weights) magnitude += std::abs(w) / static_cast<float>(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) kept[i] = std::copysign(magnitude, weights[i]);
  }
};
static_assert(klens::quantizer<sign_only>);

int main() {
  klens::matrix<float> even{{1, -1, 1, -1}, {1, 1, -1, -1}}, uneven{{4, -1, 0.5f, 0}, {0, 0.25f, -3, 2}};  // [vocabulary x in]
  const klens::matrix<float> x{{1, 0.5f, -1, 0.25f}, {0, 1, 1, 1}};                                        // [tokens x in]
  std::vector<klens::layer> layers{{"even", even}, {"uneven", uneven}};
  const auto forward = [&]() -> klens::matrix<float> { return x * (even + uneven).transpose(); };

  const auto scores = klens::rank_layers(layers, forward, {sign_only{}, "int4-channel"});
  for (const klens::layer_score* each : scores.ranked("kl"))
    std::printf("%-6s %-12s %3d bytes  %.5f nats/token\n", each->layer.c_str(), each->scheme.c_str(),
                static_cast<int>(each->bytes), each->metrics[0].mean);
}
