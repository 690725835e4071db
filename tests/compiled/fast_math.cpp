// An engine that is compiled with -ffast-math: what is not finite is still seen. Prints what klens says.
#include <cstdio>
#include <cstdlib>
#include <klens/klens.hpp>

namespace {

/// Prints what the scan refuses, or the score.
void rank(klens::matrix<float> weights, const klens::matrix<float>& x, float added) {
  std::vector<klens::layer> layers{{"only", weights}};
  int calls = 0;
  const auto forward = [&]() -> klens::matrix<float> {
    klens::matrix<float> logits = x * weights.transpose();
    if (calls++ > 0) logits(1, 2) += added;
    return logits;
  };
  try {
    const klens::scores scores = klens::rank_layers(layers, forward, {"int4-channel"});
    for (const klens::layer_score& each : scores.candidates)
      std::printf("%s\n", each.reason.empty() ? "scored" : each.reason.c_str());
  } catch (const klens::error& caught) {
    std::printf("%s\n", caught.what());
  }
}

void describe(std::vector<float> row) {
  try {
    std::printf("%.3f\n", klens::log_sum_exp(row));
  } catch (const klens::numeric_error& caught) {
    std::printf("%s\n", caught.what());
  }
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) return 2;
  const float nan = std::strtof(words[1], nullptr), infinite = std::strtof(words[2], nullptr);  // unknown to the compiler
  describe({0, 0, 0});
  describe({0, nan, 0});
  describe({0, 0, infinite});
  describe({0, -infinite, 0});
  describe({-infinite});
  const klens::matrix<float> x = klens::matrix<float>::Constant(2, 8, 0.5f);
  klens::matrix<float> weights = klens::matrix<float>::Random(4, 8);
  rank(weights, x, 0);
  rank(weights, x, nan);
  weights(3, 1) = nan;
  rank(weights, x, 0);
}
