// A user: an engine in another language's memory. bf16 weights as bits, logits in a buffer, a way to store weights of its own; it
// wants a plan for a budget, on disk, and to know what the plan costs.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <klens/io.hpp>
#include <klens/klens.hpp>
#include <klens/plan.hpp>
#include <string>
#include <vector>

#include "support/run_program.hpp"

namespace {

// Keeps every weight's sign and the mean magnitude of each sixteen.
struct signs16 {
  std::string name() const { return "signs16"; }
  std::size_t bytes(std::size_t columns) const { return columns / 16 * (2 + 2); }
  bool stores(std::size_t columns) const { return columns % 16 == 0; }
  void round_trip(std::span<const float> weights, std::span<float> kept) const {
    for (std::size_t begin = 0; begin < weights.size(); begin += 16) {
      float mean = 0;
      for (std::size_t i = begin; i < begin + 16; ++i) mean += std::abs(weights[i]) / 16;
      for (std::size_t i = begin; i < begin + 16; ++i) kept[i] = weights[i] < 0 ? -mean : mean;
    }
  }
};

class foreign_engine {
 public:
  foreign_engine() {
    std::uint32_t state = 1;
    for (auto* weights : {&first, &second, &head})
      for (std::uint16_t& each : *weights) {
        state = state * 1664525u + 1013904223u;
        const float value = static_cast<float>(state >> 8) / 16777216.0f - 0.5f;
        std::uint32_t bits = 0;
        std::memcpy(&bits, &value, 4);
        each = static_cast<std::uint16_t>(bits >> 16);
      }
  }

  // Logits of one batch of four positions.
  const float* run(std::size_t batch) {
    for (std::size_t t = 0; t < 4; ++t) {
      float x[32], y[32];
      for (std::size_t i = 0; i < 32; ++i) x[i] = std::cos(static_cast<float>((4 * batch + t + 1) * (i + 1)));
      multiply(first, x, y, 32);
      for (std::size_t i = 0; i < 32; ++i) x[i] += std::tanh(y[i]);
      multiply(second, x, y, 32);
      for (std::size_t i = 0; i < 32; ++i) x[i] += std::tanh(y[i]);
      multiply(head, x, &logits[t * 48], 48);
    }
    return logits.data();
  }

  std::vector<std::uint16_t> first = std::vector<std::uint16_t>(32 * 32), second = first,
                             head = std::vector<std::uint16_t>(48 * 32);
  std::vector<float> logits = std::vector<float>(4 * 48);

 private:
  static void multiply(const std::vector<std::uint16_t>& w, const float* x, float* y, std::size_t rows) {
    for (std::size_t r = 0; r < rows; ++r) {
      y[r] = 0;
      for (std::size_t c = 0; c < 32; ++c) {
        const std::uint32_t bits = std::uint32_t{w[r * 32 + c]} << 16;
        float weight = 0;
        std::memcpy(&weight, &bits, 4);
        y[r] += weight * x[c];
      }
    }
  }
};

}  // namespace

TEST_CASE("a foreign engine gets a plan for its budget, and what it costs") {
  const support::temporary_folder folder;
  foreign_engine engine;
  const foreign_engine before = engine;
  std::vector<klens::layer> layers{{"first", engine.first.data(), klens::weight_bits::as_bf16, 32, 32},
                                   {"second", engine.second.data(), klens::weight_bits::as_bf16, 32, 32},
                                   {"head", engine.head.data(), klens::weight_bits::as_bf16, 48, 32}};
  const auto forward = [&](std::size_t batch) { return klens::logits_view{engine.run(batch), 4, 48}; };

  klens::rank_options options;
  options.batches = 6;
  const klens::scores scores = klens::rank_layers(layers, forward, {signs16{}, "int4-g32", klens::int8{}}, options);
  klens::write_scores(folder / "scores.json", scores);
  CHECK(klens::read_scores(folder / "scores.json").result.candidates.size() == 9);
  CHECK(scores.find("head", "signs16")->bytes == 48 * 8);

  // The scores name a scheme of the user's own: klens cannot apply it by name, so the plan is made of the others.
  const klens::scores built_in = klens::rank_layers(layers, forward, {"int4-g32", "int8-channel"}, options);
  const klens::scored_units scored = klens::units_of(built_in, layers);
  const std::uint64_t budget = klens::weights_of(scored.units) * 6 / 8;
  const klens::allocation best = klens::exact{}(scored.units, budget);
  const klens::plan plan = klens::make_plan("exact", scored.units, best, budget);
  klens::write_plan(folder / "plan.json", plan);
  CHECK(klens::read_plan(folder / "plan.json").layers.size() == 3);

  const auto measured = klens::measure_versions(forward, layers, {klens::version_of(plan)}, {.batches = 6});
  CHECK(measured[0].kl.mean() == 0);
  CHECK(measured[1].kl.mean() > 0);
  CHECK(measured[1].kl.positions() == 24);

  {
    const klens::applied_version applied{layers, klens::version_of(plan)};
    CHECK((engine.first != before.first || engine.second != before.second || engine.head != before.head));
  }
  CHECK(engine.first == before.first);
  CHECK(engine.second == before.second);
  CHECK(engine.head == before.head);
}
