// A user: a batched forward whose logits lie in the engine's memory and are handed out as an Eigen::Map; a staged one that hands
// out a reference; a stopping rule of one's own.
#include <klens/klens.hpp>

#include <doctest/doctest.h>

#include <vector>

namespace {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct batched_engine {
  row_major w = row_major::Random(7, 4);
  std::vector<row_major> inputs;
  std::vector<float> buffer;

  Eigen::Map<const row_major> operator()(std::size_t batch) {
    buffer.resize(static_cast<std::size_t>(inputs[batch].rows() * w.rows()));
    Eigen::Map<row_major>(buffer.data(), inputs[batch].rows(), w.rows()) = inputs[batch] * w.transpose();
    return {buffer.data(), inputs[batch].rows(), w.rows()};
  }
};

struct staged_engine {
  batched_engine* inner;
  row_major out;
  std::size_t stages() { return 1; }
  row_major begin(std::size_t batch) { return inner->inputs[batch]; }
  void advance(row_major& x, std::size_t) { x = x * 2; }
  const row_major& logits(const row_major& x) {
    out = x * inner->w.transpose() / 2;
    return out;
  }
};

struct first_only {  // only the first candidate is of interest
  std::vector<klens::standing> operator()(const klens::look& at) const {
    std::vector<klens::standing> now(at.standings.begin(), at.standings.end());
    for (std::size_t c = 1; c < now.size(); ++c) now[c] = klens::standing::below;
    return now;
  }
  std::string name() const { return "first_only"; }
};

}  // namespace

TEST_CASE("a batched forward returns a Map, a staged one a reference: no copies, the same scores") {
  std::srand(2);
  batched_engine engine;
  for (int b = 0; b < 3; ++b) engine.inputs.push_back(row_major::Random(5, 4));
  row_major other = row_major::Random(3, 4);
  klens::rank_options options;
  options.batches = 3;
  options.metrics = {klens::kl{}, klens::top1{}};
  options.stop = first_only{};
  std::vector<klens::layer> layers{{"w", engine.w}, {"other", other}};
  const klens::scores batched = klens::rank_layers(layers, engine, "int4-channel", options);
  CHECK(batched.candidates[0].positions == 15);
  CHECK(batched.candidates[1].positions == 5);
  CHECK(batched.candidates[1].result == klens::outcome::output_unchanged);

  staged_engine staged{&engine, {}};
  layers[0].stage = layers[1].stage = 1;
  const klens::scores resumed = klens::rank_layers(layers, staged, "int4-channel", options);
  CHECK(resumed.candidates[0].metrics[0].mean == batched.candidates[0].metrics[0].mean);
  CHECK(resumed.candidates[0].metrics[1].mean == batched.candidates[0].metrics[1].mean);
}
