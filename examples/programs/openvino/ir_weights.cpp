#include "ir_weights.hpp"

#include <algorithm>
#include <cstdint>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <memory>
#include <openvino/opsets/opset13.hpp>
#include <optional>
#include <set>
#include <utility>

namespace openvino_adapter {
namespace {

namespace op = ov::opset13;
using node_ptr = std::shared_ptr<ov::Node>;

// A use of a constant, past the conversions behind it.
using uses = std::vector<ov::Input<ov::Node>>;

template <class Op>
[[nodiscard]] bool is(const ov::Node* node) {
  return dynamic_cast<const Op*>(node) != nullptr;
}

// Everything that `node` is computed from, itself included, up to the model's inputs.
void collect_sources(const node_ptr& node, std::set<node_ptr>& sources) {
  if (!sources.insert(node).second) return;
  for (const auto& input : node->input_values()) collect_sources(input.get_node_shared_ptr(), sources);
}

[[nodiscard]] bool is_float(const ov::element::Type& type) {
  return type == ov::element::f32 || type == ov::element::f16 || type == ov::element::bf16;
}

[[nodiscard]] std::vector<std::size_t> without_leading_ones(const ov::Shape& shape) {
  const auto first = std::ranges::find_if(shape, [](std::size_t each) { return each != 1; });
  return {first, shape.end()};
}

// The constant behind a MatMul's operand, directly or behind a conversion; nullptr for activations.
class weight_finder {
 public:
  explicit weight_finder(std::string path) : path_{std::move(path)} {}

  [[nodiscard]] std::shared_ptr<op::Constant> behind(const ov::Output<ov::Node>& operand) const {
    node_ptr node = operand.get_node_shared_ptr();
    if (is<op::Convert>(node.get())) node = node->input_value(0).get_node_shared_ptr();
    if (auto constant = std::dynamic_pointer_cast<op::Constant>(node)) {
      if (is_float(constant->get_element_type())) return constant;
      refuse_compressed(*constant);
    }
    std::set<node_ptr> sources;
    collect_sources(operand.get_node_shared_ptr(), sources);
    const bool is_activation = std::ranges::any_of(
        sources, [](const node_ptr& each) { return each->get_input_size() == 0 && !is<op::Constant>(each.get()); });
    if (is_activation) return nullptr;
    for (const node_ptr& each : sources)
      if (is<op::Constant>(each.get()) && !is_float(each->get_element_type()) && each->get_element_type().bitwidth() <= 8)
        refuse_compressed(*each);
    refuse("weights of unknown layout: " + klens::detail::name_text(operand.get_node()->get_friendly_name()) +
           " reaches a MatMul through " + operand.get_node()->get_type_name() +
           "; klens-openvino knows constants, plain or behind a Convert");
  }

  [[noreturn]] void refuse(const std::string& problem) const { throw klens::file_error{path_ + ": " + problem}; }

 private:
  [[noreturn]] void refuse_compressed(const ov::Node& constant) const {
    refuse("compressed already: " + klens::detail::name_text(constant.get_friendly_name()) + " holds " +
           constant.get_element_type().get_type_name() + "; give the model before its compression");
  }

  std::string path_;
};

void collect_uses(const ov::Output<ov::Node>& value, uses& found) {
  for (const ov::Input<ov::Node>& each : value.get_target_inputs()) {
    if (is<op::Convert>(each.get_node()))
      collect_uses(each.get_node()->output(0), found);
    else
      found.push_back(each);
  }
}

// Whether a use reads the matrix as [out x in] where its memory has that many rows; nothing: a use that says no layout.
[[nodiscard]] std::optional<bool> reads_rows_as_outputs(const ov::Input<ov::Node>& use) {
  if (const auto* product = dynamic_cast<const op::MatMul*>(use.get_node()))
    return use.get_index() == 1 ? product->get_transpose_b() : !product->get_transpose_a();
  if (use.get_node()->get_type_info().name == std::string{"Gather"} && use.get_index() == 0) {
    const auto axis = std::dynamic_pointer_cast<op::Constant>(use.get_node()->get_input_node_shared_ptr(2));
    if (axis) return axis->cast_vector<std::int64_t>().at(0) == 0;
  }
  return std::nullopt;
}

[[nodiscard]] ov::Tensor as_floats(const op::Constant& constant) {
  ov::Tensor values{ov::element::f32, constant.get_shape()};
  const std::vector<float> all = constant.cast_vector<float>();
  std::ranges::copy(all, values.data<float>());
  return values;
}

// What has the name that the IR calls the matrix by: the conversion to float, whose constant has it with a suffix.
[[nodiscard]] ov::Output<ov::Node> named_source(op::Constant& constant) {
  for (const ov::Input<ov::Node>& each : constant.output(0).get_target_inputs())
    if (is<op::Convert>(each.get_node())) return each.get_node()->output(0);
  return constant.output(0);
}

[[nodiscard]] ir_weight turn_into_input(ov::Model& model, op::Constant& constant, const weight_finder& finder) {
  ir_weight weight;
  weight.before = named_source(constant);
  weight.name = weight.before.get_node()->get_friendly_name();
  const std::vector<std::size_t> shape = without_leading_ones(constant.get_shape());
  uses all;
  collect_uses(constant.output(0), all);
  std::optional<bool> rows_are_outputs;
  for (const ov::Input<ov::Node>& each : all) {
    const std::optional<bool> here = reads_rows_as_outputs(each);
    if (shape.size() != 2 || !here || here != rows_are_outputs.value_or(*here))
      finder.refuse("weights of unknown layout: " + klens::detail::name_text(weight.name) + " of " +
                    std::to_string(shape.size()) + " dimensions is used by " + each.get_node()->get_type_name() + " " +
                    klens::detail::name_text(each.get_node()->get_friendly_name()));
    rows_are_outputs = here;
    weight.tied = weight.tied || !is<op::MatMul>(each.get_node());
  }
  weight.stored_as_in_out = !*rows_are_outputs;
  weight.out = shape[weight.stored_as_in_out ? 1 : 0];
  weight.in = shape[weight.stored_as_in_out ? 0 : 1];
  weight.values = as_floats(constant);
  const auto parameter = std::make_shared<op::Parameter>(ov::element::f32, constant.get_shape());
  parameter->set_friendly_name(weight.name);
  for (ov::Input<ov::Node>& each : all) {
    const ov::element::Type wanted = each.get_element_type();
    each.replace_source_output(wanted == ov::element::f32 ? parameter->output(0)
                                                          : std::make_shared<op::Convert>(parameter, wanted)->output(0));
  }
  weight.input = model.get_parameters().size();
  model.add_parameters({parameter});
  return weight;
}

}  // namespace

klens::layer ir_weight::as_layer() {
  using floats = Eigen::Map<klens::matrix<float>>;
  const auto rows = static_cast<Eigen::Index>(out), columns = static_cast<Eigen::Index>(in);
  float* const data = values.data<float>();
  const auto made = [&]() -> klens::layer {
    if (!stored_as_in_out) return {name, klens::matrix_ref<float>{floats{data, rows, columns}}};
    return {name, out, in,
            [=](klens::matrix_ref<float> into) {
              into = floats{data, columns, rows}.transpose();
            },
            [=](klens::const_matrix_ref<float> from) {
              floats{data, columns, rows} = from.transpose();
            }};
  };
  klens::layer layer = made();
  if (tied) layer.note = "tied to the embedding: the perturbation reaches both uses";
  return layer;
}

std::vector<ir_weight> turn_weights_into_inputs(ov::Model& model, const std::string& path) {
  const weight_finder finder{path};
  std::vector<std::shared_ptr<op::Constant>> constants;
  for (const node_ptr& node : model.get_ordered_ops()) {
    if (!is<op::MatMul>(node.get())) continue;
    for (const ov::Output<ov::Node>& operand : node->input_values()) {
      const auto constant = finder.behind(operand);
      if (!constant || std::ranges::find(constants, constant) != constants.end()) continue;
      // A row or a column has no groups to quantize: frequencies of a rotary embedding, for one.
      const std::vector<std::size_t> shape = without_leading_ones(constant->get_shape());
      if (shape.size() < 2 || std::ranges::find(shape, std::size_t{1}) != shape.end()) continue;
      constants.push_back(constant);
    }
  }
  if (constants.empty()) finder.refuse("no MatMul has constant weights; there is nothing to rank");
  std::vector<ir_weight> weights;
  for (const auto& each : constants) weights.push_back(turn_into_input(model, *each, finder));
  return weights;
}

}  // namespace openvino_adapter
