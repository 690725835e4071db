// An engine in the manner of C: weights behind plain pointers, one matrix in float and one in fp16, logits in a buffer of its own.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <klens/klens.hpp>
#include <vector>

struct c_engine {
  static constexpr std::size_t tokens = 4, width = 16, hidden = 32, vocabulary = 8;
  float* up;            // [hidden x width], row by row
  std::uint16_t* down;  // fp16 bits, [vocabulary x hidden], rows `down_stride` apart
  std::size_t down_stride;
  const float* input;  // [tokens x width]
  float* logits;       // [tokens x vocabulary]

  void run() const {
    for (std::size_t t = 0; t < tokens; ++t) {
      float inner[hidden] = {};
      for (std::size_t h = 0; h < hidden; ++h) {
        for (std::size_t i = 0; i < width; ++i) inner[h] += up[h * width + i] * input[t * width + i];
        inner[h] = inner[h] > 0 ? inner[h] : 0;
      }
      for (std::size_t v = 0; v < vocabulary; ++v) {
        float sum = 0;
        for (std::size_t h = 0; h < hidden; ++h)
          sum += static_cast<float>(std::bit_cast<klens::half>(down[v * down_stride + h])) * inner[h];
        logits[t * vocabulary + v] = sum;
      }
    }
  }
};

int main() {
  constexpr std::size_t stride = 40;  // eight more than a row has, as engines pad their rows
  std::vector<float> up(c_engine::hidden * c_engine::width), input(c_engine::tokens * c_engine::width);
  std::vector<float> logits(c_engine::tokens * c_engine::vocabulary);
  std::vector<std::uint16_t> down(c_engine::vocabulary * stride);
  for (std::size_t i = 0; i < up.size(); ++i) up[i] = std::sin(0.7f * static_cast<float>(i + 1));
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = std::sin(0.1f * static_cast<float>(i + 1));
  for (std::size_t i = 0; i < down.size(); ++i)
    down[i] = std::bit_cast<std::uint16_t>(klens::half(std::sin(1.3f * static_cast<float>(i + 1))));
  const c_engine engine{up.data(), down.data(), stride, input.data(), logits.data()};

  std::vector<klens::layer> layers;
  layers.push_back(klens::layer{"up", engine.up, engine.hidden, engine.width});
  layers.push_back({"down", engine.down, klens::weight_bits::as_fp16, engine.vocabulary, engine.hidden, engine.down_stride});
  const auto forward = [&] {
    engine.run();
    return klens::logits_view{engine.logits, engine.tokens, engine.vocabulary};  // read where it lies, without a copy
  };

  const klens::scores scores = klens::rank_layers(layers, forward, {"int4-g16", "int8-channel"}, {klens::kl{}});
  for (const klens::layer_score* each : scores.ranked("kl"))
    std::printf("%-5s %-13s %.2e nats/token\n", each->layer.c_str(), each->scheme.c_str(), each->metrics[0].mean);
}
