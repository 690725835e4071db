// Ranks a model of one layer: what another project needs of klens, found through its package.
#include <klens/klens.hpp>
#include <vector>

int main() {
  klens::matrix<float> weights = klens::matrix<float>::Random(4, 8);  // [vocabulary x in]
  const klens::matrix<float> x = klens::matrix<float>::Random(2, 8);  // [positions x in]
  std::vector<klens::layer> layers{{"only", weights}};
  const auto forward = [&]() -> klens::matrix<float> { return x * weights.transpose(); };
  return klens::rank_layers(layers, forward, {"int4-channel"}).candidates.size() == 1 ? 0 : 1;
}
