#include "synthetic.hpp"
#include "synthetic_parts.hpp"

namespace openvino_adapter {
namespace {

// x [batch, heads, length, width]: halves of each head turned by angles that grow with the position.
node rotated(const node& x, const node& cosine, const node& sine) {
  const node halves_axis = op::Constant::create(ov::element::i64, {}, {-1});
  const auto halves = std::make_shared<op::Split>(x, halves_axis, 2);
  const node turned =
      make<op::Concat>(ov::OutputVector{make<op::Multiply>(halves->output(1), number(-1)), halves->output(0)}, -1);
  return make<op::Add>(make<op::Multiply>(x, cosine), make<op::Multiply>(turned, sine));
}

// [length, head width], each angle for both halves.
node angles_of(const node& ids, std::size_t head_width) {
  std::vector<float> frequencies;
  for (std::size_t i = 0; i < head_width; ++i)
    frequencies.push_back(
        std::pow(10000.0f, -2.0f * static_cast<float>(i % (head_width / 2)) / static_cast<float>(head_width)));
  return make<op::Multiply>(make<op::Unsqueeze>(positions_of(ids), integers({1})),
                            op::Constant::create(ov::element::f32, {1, head_width}, frequencies));
}

}  // namespace

std::shared_ptr<ov::Model> synthetic_llama(const llama_shape& shape) {
  random_layers make_layer;
  const std::size_t width = shape.width;
  const auto heads = static_cast<std::int64_t>(shape.heads);
  const auto ids = ids_input();
  const node angles = angles_of(ids, width / shape.heads);
  const node cosine = make<op::Cos>(angles), sine = make<op::Sin>(angles);
  node x = embedded(make_layer.weights("model.embed_tokens.weight", {shape.vocabulary, width}), ids);
  for (std::size_t block = 0; block < shape.blocks; ++block) {
    const std::string name = "model.layers." + std::to_string(block) + ".";
    const node entry = random_layers::norm(x, width);
    const auto projected = [&](const char* part) {
      const node flat = make_layer.linear(name + "self_attn." + part + "_proj", entry, width, width);
      return transposed(reshaped(flat, {0, 0, heads, -1}), {0, 2, 1, 3});
    };
    const node q = rotated(projected("q"), cosine, sine), k = rotated(projected("k"), cosine, sine), v = projected("v");
    const node mixed = transposed(make<op::ScaledDotProductAttention>(q, k, v, true), {0, 2, 1, 3});
    x = make<op::Add>(x, make_layer.linear(name + "self_attn.o_proj", reshaped(mixed, {0, 0, -1}), width, width));
    const node middle = random_layers::norm(x, width);
    const node gate = silu(make_layer.linear(name + "mlp.gate_proj", middle, shape.inner, width));
    const node up = make_layer.linear(name + "mlp.up_proj", middle, shape.inner, width);
    x = make<op::Add>(x, make_layer.linear(name + "mlp.down_proj", make<op::Multiply>(gate, up), width, shape.inner));
  }
  return model_of(make_layer.linear("lm_head", random_layers::norm(x, width), shape.vocabulary, width), ids);
}

}  // namespace openvino_adapter
