// An engine of one's own: fp16 weights that only load and store can reach, a forward that hands out one batch at a time,
// progress.
#include <cstdio>
#include <klens/klens.hpp>
#include <vector>

struct engine {  // y = W x, W kept as fp16 in column order: no row-major float matrix to be seen
  std::vector<klens::half> weights = std::vector<klens::half>(6 * 4);
  std::vector<klens::matrix<float>> batches;  // [tokens x 4] each

  [[nodiscard]] klens::half& weight(Eigen::Index row, Eigen::Index column) {
    return weights[static_cast<std::size_t>(column * 6 + row)];
  }
  klens::layer as_layer() {
    return {"engine.weight", 6, 4,
            [this](klens::matrix_ref<float> into) {
              for (int i = 0; i < 24; ++i) into(i / 4, i % 4) = static_cast<float>(weight(i / 4, i % 4));
            },
            [this](klens::const_matrix_ref<float> from) {
              for (int i = 0; i < 24; ++i) weight(i / 4, i % 4) = klens::half(from(i / 4, i % 4));
            }};
  }
  klens::matrix<float> operator()(std::size_t batch) {
    klens::matrix<float> w(6, 4);
    for (int i = 0; i < 24; ++i) w(i / 4, i % 4) = static_cast<float>(weight(i / 4, i % 4));
    return batches[batch] * w.transpose();
  }
};

int main() {
  engine mine;
  for (int i = 0; i < 24; ++i) mine.weights[static_cast<std::size_t>(i)] = klens::half(std::sin(1.7f * static_cast<float>(i)));
  for (float shift : {0.0f, 0.5f, 1.0f}) mine.batches.push_back(klens::matrix<float>{{1, shift, 0, 1}, {0, 1, 1 - shift, 2}});

  std::vector<klens::layer> layers{mine.as_layer()};
  klens::rank_options options;
  options.batches = mine.batches.size();
  options.progress = [](const klens::scan_progress& at) {
    std::printf("batch %zu of %zu: %s\n", at.batch + 1, at.batches, std::string{at.scheme}.c_str());
    return true;  // false would stop here and keep what there is
  };
  const auto scores = klens::rank_layers(layers, mine, {"int4-channel"}, {klens::kl{}, klens::sqnr{}}, options);
  const klens::layer_score& only = scores.candidates[0];
  std::printf("%s: %.5f nats/token (95 %%: %.5f to %.5f), %.1f dB\n", only.layer.c_str(), only.metrics[0].mean,
              only.metrics[0].low, only.metrics[0].high, only.metrics[1].mean);
}
