// Which of two layers suffers more from 4-bit weights? Prints them, worst first.
#include <cstdio>
#include <klens/klens.hpp>

klens::matrix<float> wave(int rows, int columns, float step) {
  klens::matrix<float> values(rows, columns);
  for (int i = 0; i < rows * columns; ++i) values.data()[i] = std::sin(step * static_cast<float>(i + 1));
  return values;
}

int main() {
  klens::matrix<float> up = wave(32, 16, 0.7f), down = wave(8, 32, 1.3f);  // [hidden x in], [vocabulary x hidden]
  const klens::matrix<float> x = wave(4, 16, 0.1f);                        // [tokens x in]
  std::vector<klens::layer> layers{{"up", up}, {"down", down}};
  const auto forward = [&]() -> klens::matrix<float> { return (x * up.transpose()).cwiseMax(0.0f) * down.transpose(); };

  const klens::scores scores = klens::rank_layers(layers, forward, {klens::int4{.group_size = 16}}, {klens::kl{}});
  for (const klens::layer_score* each : scores.ranked("kl"))
    std::printf("%-5s %.3f nats/token\n", each->layer.c_str(), each->metrics[0].mean);
}
