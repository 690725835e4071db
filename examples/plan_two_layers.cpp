// A scheme for each of two layers within 6 bits a weight: ranked, planned, applied and measured.
#include <cstdio>
#include <klens/klens.hpp>
#include <klens/plan.hpp>

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

  const klens::scores scores = klens::rank_layers(layers, forward, {"int4-g16", "int6-g16"}, {klens::kl{}});
  const klens::scored_units scored = klens::units_of(scores, layers);
  const std::uint64_t budget = klens::weights_of(scored.units) * 6 / 8;  // 6 bits a weight, scales included
  const klens::plan plan = klens::make_plan("exact", scored.units, klens::exact{}(scored.units, budget), budget);
  for (const klens::layer_scheme& each : plan.layers) std::printf("%-5s %s\n", each.layer.c_str(), each.scheme.c_str());

  const std::vector<klens::model_version> versions{klens::version_of(plan)};
  const auto measured = klens::measure_versions(forward, layers, versions);
  std::printf("%.2f bits a weight, %.3f nats/token predicted, %.3f measured\n", plan.bits_per_weight, plan.predicted.at("kl"),
              measured[1].kl.mean());
}
