// A user: the author of an inference engine that keeps weights behind plain pointers, float in one place, fp16 bits in another,
// and logits in a buffer of its own.
#include <klens/klens.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace {

struct tensor_file {  // what a loader gives: padded rows of floats, and fp16 as bits
  static constexpr std::size_t hidden = 8, vocabulary = 11, padded = 12;
  std::vector<float> up = std::vector<float>(hidden * padded);
  std::vector<std::uint16_t> head = std::vector<std::uint16_t>(vocabulary * hidden);
};

struct engine {
  tensor_file* weights;
  std::vector<float> logits;

  void run(int first_token, std::size_t positions) {
    logits.assign(positions * tensor_file::vocabulary, 0.0f);
    for (std::size_t t = 0; t < positions; ++t) {
      float state[tensor_file::hidden];
      for (std::size_t i = 0; i < tensor_file::hidden; ++i) {
        state[i] = 0;
        for (std::size_t j = 0; j < tensor_file::hidden; ++j)
          state[i] += weights->up[i * tensor_file::padded + j] *
                      std::cos(static_cast<float>((first_token + static_cast<int>(t)) * static_cast<int>(j)));
      }
      for (std::size_t v = 0; v < tensor_file::vocabulary; ++v)
        for (std::size_t i = 0; i < tensor_file::hidden; ++i)
          logits[t * tensor_file::vocabulary + v] +=
              static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(weights->head[v * tensor_file::hidden + i])) * state[i];
    }
  }
};

}  // namespace

TEST_CASE("an engine with raw pointers ranks its layers") {
  tensor_file file;
  for (std::size_t i = 0; i < file.up.size(); ++i) file.up[i] = std::sin(static_cast<float>(i));
  for (std::size_t i = 0; i < file.head.size(); ++i)
    file.head[i] = Eigen::numext::bit_cast<std::uint16_t>(Eigen::half(std::cos(1.7f * static_cast<float>(i))));
  const tensor_file before = file;
  engine mine{&file, {}};

  klens::layer up{"up", file.up.data(), 8, 8, 12};
  klens::layer head{"head", file.head.data(), klens::weight_bits::as_fp16, 11, 8};
  std::vector<klens::layer> layers{up, head};
  auto forward = [&](std::size_t batch) {
    mine.run(static_cast<int>(batch) * 3, 3);
    return klens::logits_view{mine.logits, 3, 11};
  };
  klens::rank_options options;
  options.batches = 2;
  std::size_t reports = 0;
  options.progress = [&](const klens::scan_progress&) { ++reports; };
  const klens::scores scores = klens::rank_layers(layers, forward, {"int4-g8", "int8-channel"}, options);

  CHECK(scores.candidates.size() == 4);
  CHECK(reports == 8);
  CHECK(scores.find("up", "int4-g8")->metrics[0].mean > scores.find("up", "int8-channel")->metrics[0].mean);
  CHECK(file.up == before.up);
  CHECK(file.head == before.head);

  mine.run(0, 3);
  const std::vector<float> reference = mine.logits;
  klens::weight_guard guard{layers[1]};
  guard.apply("int4-g8");
  mine.run(0, 3);
  double kl = 0;
  for (std::size_t t = 0; t < 3; ++t) kl += klens::kl_divergence({&reference[t * 11], 11}, {&mine.logits[t * 11], 11}) / 3;
  CHECK(kl > 0);
}
