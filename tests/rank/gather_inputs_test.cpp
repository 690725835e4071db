#include <klens/rank/gather_inputs.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <klens/error.hpp>
#include <klens/metric/metrics.hpp>
#include <klens/rank/rank_layers.hpp>
#include <string>
#include <support/reference_quantizers.hpp>
#include <vector>

namespace {

using klens::matrix;

matrix<float> drawn(Eigen::Index rows, Eigen::Index columns, std::uint64_t seed) {
  splitmix random{seed};
  return matrix<float>::NullaryExpr(rows, columns, [&] { return random.bell(); });
}

/// logits = relu(x up^T) down^T, in two batches, whose products somebody may look at.
struct shown_model {
  matrix<float> up = drawn(12, 16, 1), down = drawn(20, 12, 2), spare = drawn(4, 4, 3);
  std::vector<matrix<float>> x{drawn(30, 16, 4), drawn(10, 16, 5)};
  klens::input_observer observer;
  int runs = 0;

  shown_model() {
    up.row(5).setConstant(-1);  // below 0 for all inputs: the fifth input of down is always 0
    for (matrix<float>& each : x) each = each.cwiseAbs();
  }
  matrix<float> operator()(std::size_t batch) {
    ++runs;
    show("up", x[batch]);
    const matrix<float> hidden = (x[batch] * up.transpose()).cwiseMax(0.0f);
    show("down", hidden);
    return hidden * down.transpose();
  }
  void observe_inputs(const klens::input_observer& of) { observer = of; }
  void show(const char* name, const matrix<float>& inputs) const {
    if (observer) observer(name, inputs);
  }
  [[nodiscard]] std::vector<klens::layer> layers() { return {{"up", up}, {"down", down}}; }
};
static_assert(klens::input_showing_forward<shown_model>);

/// The same forward, which shows nothing.
struct closed_model {
  shown_model* of;
  matrix<float> operator()(std::size_t batch) const { return (*of)(batch); }
};

}  // namespace

TEST_CASE("gather_inputs: means over all positions of all batches") {
  shown_model model;
  std::vector<klens::layer> layers = model.layers();
  klens::gather_inputs(layers, model, 2, klens::input_need::second_moments);
  CHECK(model.runs == 2);
  CHECK_FALSE(model.observer);
  matrix<float> all(40, 16);
  all << model.x[0], model.x[1];
  const matrix<float> moments = all.transpose() * all / 40;
  REQUIRE(layers[0].inputs);
  CHECK(layers[0].inputs->positions == 40);
  CHECK((layers[0].inputs->second_moments - moments).norm() < 1e-5f * moments.norm());
  CHECK(layers[0].inputs->second_moments == layers[0].inputs->second_moments.transpose());
  for (Eigen::Index j = 0; j < 16; ++j)
    CHECK(layers[0].inputs->mean_squares[static_cast<std::size_t>(j)] == doctest::Approx(moments(j, j)).epsilon(1e-5));
  CHECK(layers[1].inputs->mean_squares[5] == 0);
  CHECK(layers[1].note == "1 of its 12 inputs were always 0");

  klens::gather_inputs(layers, model, 2);  // all is known
  CHECK(model.runs == 2);
}

TEST_CASE("rank_layers: informed schemes look at inputs that the forward shows, once") {
  shown_model model;
  std::vector<klens::layer> layers = model.layers();
  klens::rank_options options;
  options.batches = 2;
  const std::vector<klens::scheme> schemes = klens::parse_schemes("int3-channel,int3-channel-imp,int3-channel-gptq");
  const klens::scores scores = klens::rank_layers(layers, model, schemes, {klens::kl{}, klens::mse{}}, options);
  for (const char* const layer : {"up", "down"}) {
    INFO(layer);
    const auto mse = [&](const char* scheme) { return scores.find(layer, scheme)->metrics[1].mean; };
    CHECK(mse("int3-channel-imp") < mse("int3-channel"));         // knows how large inputs are, not how they go together
    CHECK(mse("int3-channel-gptq") < 0.9 * mse("int3-channel"));  // knows both
    CHECK(scores.find(layer, "int3-channel-imp")->bytes == scores.find(layer, "int3-channel")->bytes);
  }
  CHECK(model.up == shown_model{}.up);
  const int before = model.runs;
  (void)klens::rank_layers(layers, closed_model{&model}, "int3-channel-imp", klens::kl{}, options);  // their inputs are known
  CHECK(model.runs > before);
}

TEST_CASE("rank_layers: informed schemes without inputs are refused, and fail where a layer saw nothing") {
  shown_model model;
  std::vector<klens::layer> layers = model.layers();
  klens::rank_options options;
  options.batches = 2;
  CHECK_THROWS_WITH_AS(
      (void)klens::rank_layers(layers, closed_model{&model}, "int4-g8-imp", klens::kl{}, options),
      "int4-g8-imp: looks at the inputs of layers; set layer::inputs (up has none), or give a forward that shows "
      "them (klens::input_showing_forward)",
      klens::argument_error);
  layers.emplace_back("spare", model.spare);
  const klens::scores scores = klens::rank_layers(layers, model, {"int4-g8-imp", "int4-g8"}, klens::kl{}, options);
  CHECK(scores.find("up", "int4-g8-imp")->result == klens::outcome::measured);
  CHECK(scores.find("spare", "int4-g8-imp")->result == klens::outcome::failed);
  CHECK(scores.find("spare", "int4-g8-imp")->reason.find("nothing came into this layer") != std::string::npos);
  CHECK(scores.find("spare", "int4-g8")->result == klens::outcome::output_unchanged);

  shown_model wrong;
  std::vector<klens::layer> of_wrong{{"down", wrong.spare}};
  CHECK_THROWS_WITH_AS(klens::gather_inputs(of_wrong, wrong, 2),
                       "down: the forward shows inputs of 12 columns, the layer has 4", klens::shape_error);
  CHECK_FALSE(wrong.observer);
}
