#include <klens/error.hpp>
#include <limits>

#include "synthetic.hpp"
#include "synthetic_parts.hpp"

namespace openvino_adapter {
namespace {

// A convolution of each channel over the length, which sees no later position: x [batch, length, channels].
node causal_convolution(random_layers& make_layer, const std::string& name, const node& x, std::size_t channels,
                        std::size_t kernel) {
  const node taps = make_layer.weights(name, {channels, 1, 1, kernel});
  const node along = make<op::GroupConvolution>(transposed(x, {0, 2, 1}), taps, ov::Strides{1},
                                                ov::CoordinateDiff{static_cast<std::ptrdiff_t>(kernel) - 1},
                                                ov::CoordinateDiff{0}, ov::Strides{1});
  return transposed(along, {0, 2, 1});
}

ov::OutputVector split(const node& x, const std::vector<std::int64_t>& widths) {
  return std::make_shared<op::VariadicSplit>(x, op::Constant::create(ov::element::i64, {}, {-1}), integers(widths))->outputs();
}

// Rates at which heads forget, as in training's first step: -1, -2, ...
node rates(std::size_t heads) {
  std::vector<float> values;
  for (std::size_t h = 0; h < heads; ++h) values.push_back(-static_cast<float>(h + 1));
  return op::Constant::create(ov::element::f32, {heads}, values);
}

}  // namespace

node state_space_product(const node& decay, const node& b, const node& c, const node& x) {
  const node summed = transposed(make<op::CumSum>(decay, op::Constant::create(ov::element::i64, {}, {1})), {0, 2, 1});
  const node between =
      make<op::Subtract>(make<op::Unsqueeze>(summed, integers({3})), make<op::Unsqueeze>(summed, integers({2})));
  const node at = positions_of(decay);
  const node is_past = make<op::LessEqual>(make<op::Unsqueeze>(at, integers({0})), make<op::Unsqueeze>(at, integers({1})));
  const node kept = make<op::Exp>(
      make<op::Select>(is_past, between, number(-std::numeric_limits<float>::infinity())));  // [batch, heads, t, s]
  const node likeness = make<op::Unsqueeze>(make<op::MatMul>(c, b, false, true), integers({1}));
  const node y = make<op::MatMul>(make<op::Multiply>(likeness, kept), transposed(x, {0, 2, 1, 3}));
  return transposed(y, {0, 2, 1, 3});
}

std::shared_ptr<ov::Model> synthetic_mamba2(const mamba2_shape& shape) {
  random_layers make_layer;
  const std::size_t inner = shape.heads * shape.head_width, convolved = inner + 2 * shape.state;
  const auto whole = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  const auto ids = ids_input();
  const node table = make_layer.weights("backbone.embeddings.weight", {shape.vocabulary, shape.width});
  node residual = embedded(table, ids);
  for (std::size_t block = 0; block < shape.blocks; ++block) {
    const std::string name = "backbone.layers." + std::to_string(block) + ".mixer.";
    const node entry = random_layers::norm(residual, shape.width);
    const auto parts = split(make_layer.linear(name + "in_proj", entry, inner + convolved + shape.heads, shape.width),
                             {whole(inner), whole(convolved), whole(shape.heads)});
    const auto xbc = split(silu(causal_convolution(make_layer, name + "conv1d.weight", parts[1], convolved, shape.kernel)),
                           {whole(inner), whole(shape.state), whole(shape.state)});
    const node step = make<op::SoftPlus>(make<op::Add>(parts[2], number(-4)));  // [batch, length, heads]
    const node x = reshaped(xbc[0], {0, 0, whole(shape.heads), -1});
    const node mixed = state_space_product(make<op::Multiply>(step, rates(shape.heads)), xbc[1], xbc[2],
                                           make<op::Multiply>(x, make<op::Unsqueeze>(step, integers({3}))));
    const node y = reshaped(make<op::Add>(mixed, x), {0, 0, -1});
    const node gated = random_layers::norm(make<op::Multiply>(y, silu(parts[0])), inner);
    residual = make<op::Add>(residual, make_layer.linear(name + "out_proj", gated, shape.width, inner));
  }
  return model_of(make<op::MatMul>(random_layers::norm(residual, shape.width), table, false, true), ids);
}

std::shared_ptr<ov::Model> synthetic_model(const std::string& name) {
  if (name == "mamba2-130m") return synthetic_mamba2({});
  if (name == "llama-130m") return synthetic_llama({});
  throw klens::argument_error{"--synthetic " + name + " is not known; known are mamba2-130m and llama-130m"};
}

}  // namespace openvino_adapter
