#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/random.hpp>
#include <memory>
#include <openvino/opsets/opset13.hpp>
#include <string>
#include <utility>
#include <vector>

namespace openvino_adapter {

namespace op = ov::opset13;
using node = ov::Output<ov::Node>;

/// A node of the graph, for nesting.
template <class Op, class... Arguments>
[[nodiscard]] node make(Arguments&&... arguments) {
  return std::make_shared<Op>(std::forward<Arguments>(arguments)...);
}

[[nodiscard]] inline node number(float value) { return op::Constant::create(ov::element::f32, {}, {value}); }
[[nodiscard]] inline node integers(const std::vector<std::int64_t>& values) {
  return op::Constant::create(ov::element::i64, {values.size()}, values);
}

/// 0, 1, ..., length - 1 for x [batch, length, ...].
[[nodiscard]] inline node positions_of(const node& x) {
  const node length = make<op::Gather>(make<op::ShapeOf>(x), integers({1}), integers({0}));
  const auto whole = [](std::int64_t value) -> node { return op::Constant::create(ov::element::i64, {}, {value}); };
  return make<op::Range>(whole(0), make<op::Squeeze>(length, integers({0})), whole(1), ov::element::f32);
}

[[nodiscard]] inline node silu(const node& x) { return make<op::Swish>(x); }

[[nodiscard]] inline node reshaped(const node& x, const std::vector<std::int64_t>& shape) {
  return make<op::Reshape>(x, integers(shape), true);
}
[[nodiscard]] inline node transposed(const node& x, const std::vector<std::int64_t>& order) {
  return make<op::Transpose>(x, integers(order));
}

/// The weights of a model and the layers that they are in.
class random_layers {
 public:
  /// A constant in f16 behind a conversion, with weights of mean 0 and variance 1 / columns.
  [[nodiscard]] node weights(const std::string& name, const ov::Shape& shape) {
    std::vector<ov::float16> values(ov::shape_size(shape));
    const double deviation = 1 / std::sqrt(static_cast<double>(shape.back()));
    for (ov::float16& each : values) each = static_cast<float>(deviation * random_.normal());
    auto constant = std::make_shared<op::Constant>(ov::element::f16, shape, values.data());
    constant->set_friendly_name(name + "_compressed");
    auto made = std::make_shared<op::Convert>(constant, ov::element::f32);
    made->set_friendly_name(name);
    return made;
  }

  [[nodiscard]] node linear(const std::string& name, const node& x, std::size_t out, std::size_t in) {
    return make<op::MatMul>(x, weights(name + ".weight", {out, in}), false, true);
  }

  [[nodiscard]] static node norm(const node& x, std::size_t width) {
    const node mean = make<op::ReduceMean>(make<op::Power>(x, number(2)), integers({-1}), true);
    const node unit = make<op::Divide>(x, make<op::Sqrt>(make<op::Add>(mean, number(1e-5f))));
    return make<op::Multiply>(unit, op::Constant::create(ov::element::f32, {width}, std::vector<float>(width, 1.0f)));
  }

 private:
  klens::random_stream random_{1};
};

[[nodiscard]] inline std::shared_ptr<op::Parameter> ids_input() {
  auto made = std::make_shared<op::Parameter>(ov::element::i64, ov::PartialShape{-1, -1});
  made->set_friendly_name("input_ids");
  return made;
}

[[nodiscard]] inline node embedded(const node& table, const node& ids) {
  return make<op::Gather>(table, ids, op::Constant::create(ov::element::i32, {}, {0}));
}

[[nodiscard]] inline std::shared_ptr<ov::Model> model_of(const node& logits, const std::shared_ptr<op::Parameter>& ids) {
  logits.get_node()->output(0).set_names({"logits"});
  return std::make_shared<ov::Model>(ov::OutputVector{logits}, ov::ParameterVector{ids});
}

}  // namespace openvino_adapter
