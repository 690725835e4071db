// A user: a transformer of many blocks, so many that it wants to look only where the answer is open, to be able to stop, and to see
// how far it is.
#include <doctest/doctest.h>

#include <cmath>
#include <klens/io.hpp>
#include <klens/klens.hpp>
#include <string>
#include <vector>

#include "support/run_program.hpp"

namespace {

struct blocks {
  std::vector<klens::matrix<float>> weights;
  klens::matrix<float> head;

  struct activations {
    klens::matrix<float> x;
  };

  std::size_t stages() const { return weights.size(); }
  activations begin(std::size_t batch) const {
    klens::matrix<float> x(6, 16);
    for (Eigen::Index i = 0; i < x.size(); ++i)
      x.data()[i] = std::sin(static_cast<float>(i + 1) * static_cast<float>(batch + 1));
    return {x};
  }
  void advance(activations& at, std::size_t stage) const {
    at.x += (at.x * weights[stage].transpose()).array().tanh().matrix();
  }
  klens::matrix<float> logits(const activations& at) const { return at.x * head.transpose(); }
  klens::matrix_ref<float> residual(activations& at) const { return at.x; }
};

}  // namespace

TEST_CASE("a long scan: which two layers are worst, with progress, checkpoints and the cheap method") {
  std::srand(5);
  blocks model;
  for (int b = 0; b < 8; ++b)
    model.weights.push_back(0.1f * static_cast<float>(1 + b % 3) * klens::matrix<float>::Random(16, 16));
  model.head = klens::matrix<float>::Random(20, 16);
  std::vector<klens::layer> layers;
  for (std::size_t b = 0; b < model.weights.size(); ++b) {
    layers.push_back({"block." + std::to_string(b) + ".weight", model.weights[b]});
    layers.back().stage = b;
  }

  const support::temporary_folder folder;
  const klens::scan_identity identity{{"model", "blocks"}, {"tokens", "sines"}};
  klens::rank_options options;
  options.batches = 10;
  options.sequence_length = 3;
  options.stop = klens::top{2};
  options.confidence = 0.9;
  double seconds_left = 0;
  options.progress = [&](const klens::scan_progress& at) { seconds_left = at.seconds_left; };
  options.checkpoint = [&](const klens::scan_checkpoint& at) { klens::write_checkpoint(folder / "scan", identity, at); };
  const klens::scores scores =
      klens::rank_layers(layers, model, klens::int4{.group_size = 16}, {klens::kl{}, klens::top1{}}, options);
  CHECK(scores.complete);

  const klens::ranking ranking = klens::ranking_of(scores, "kl", "int4-g16");
  CHECK(ranking.places.size() == 8);
  const klens::scan_checkpoint kept = klens::read_checkpoint(folder / "scan", identity);
  options.resume = &kept;
  options.checkpoint = {};
  const klens::scores resumed =
      klens::rank_layers(layers, model, klens::int4{.group_size = 16}, {klens::kl{}, klens::top1{}}, options);
  CHECK(resumed.ranked("kl")[0]->layer == scores.ranked("kl")[0]->layer);

  klens::rank_options quick;
  quick.batches = 10;
  quick.sequence_length = 3;
  quick.method = klens::scan_method::refine;
  quick.stop = klens::top{2};
  quick.local.calibrations = 3;
  const klens::scores refined = klens::rank_layers(layers, model, "int4-g16", quick);
  CHECK(refined.cost.forwards < scores.cost.forwards);
  CHECK(refined.candidates.size() == 8);
}
