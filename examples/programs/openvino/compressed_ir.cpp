#include "compressed_ir.hpp"

#include <unistd.h>

#include <algorithm>
#include <klens/io/atomic_file.hpp>
#include <klens/quant/scheme.hpp>
#include <openvino/opsets/opset13.hpp>
#include <system_error>
#include <vector>

#include "ir_weights.hpp"
#include "stored_form.hpp"

namespace openvino_adapter {
namespace {

namespace op = ov::opset13;

struct planned_weight {
  ir_weight* weight;
  std::string scheme;
};

ir_weight* meant_by(const std::string& layer, std::vector<ir_weight>& weights) {
  const auto found = std::ranges::find_if(
      weights, [&](const ir_weight& each) { return each.name == layer || each.name.ends_with("." + layer); });
  if (found != weights.end()) return &*found;
  const auto tied = std::ranges::find_if(weights, &ir_weight::tied);
  return layer == "lm_head.weight" && tied != weights.end() ? &*tied : nullptr;
}

std::vector<planned_weight> planned(std::vector<ir_weight>& weights, const klens::plan& plan, const std::string& plan_path,
                                    const std::string& path) {
  const auto refuse = [&](const std::string& what) {
    throw klens::argument_error{plan_path + ": " + what + "; is this a plan of another model?"};
  };
  std::vector<planned_weight> all;
  std::uint64_t bytes = 0;
  for (const klens::layer_scheme& each : plan.layers) {
    ir_weight* const weight = meant_by(each.layer, weights);
    if (!weight) refuse("has a layer " + each.layer + ", but the matrices of " + path + " are like " + weights.front().name);
    if (std::ranges::find(all, weight, &planned_weight::weight) != all.end())
      refuse("has " + weight->name + " of " + path + " twice");
    const klens::stored_layer layer{each.layer, each.scheme, weight->out, weight->in};
    if (const std::string why = storage_problem(layer); !why.empty()) throw klens::cannot_store("OpenVINO", layer, why);
    bytes += klens::scheme{each.scheme}.bytes(weight->out, weight->in);
    all.push_back({weight, each.scheme});
  }
  if (bytes != plan.bytes)
    refuse("counts " + std::to_string(plan.bytes) + " bytes, but its schemes take " + std::to_string(bytes) + " in " + path);
  return all;
}

// What reads an input that was a matrix, told to read it as [out x in].
void read_as_out_in(const ov::Output<ov::Node>& matrix, const ir_weight& weight, const std::string& path) {
  for (const ov::Input<ov::Node>& each : matrix.get_target_inputs()) {
    if (dynamic_cast<op::Convert*>(each.get_node())) {
      read_as_out_in(each.get_node()->output(0), weight, path);
    } else if (auto* const product = dynamic_cast<op::MatMul*>(each.get_node())) {
      each.get_index() == 1 ? product->set_transpose_b(true) : product->set_transpose_a(false);
    } else if (weight.stored_as_in_out) {
      throw klens::file_error{path + ": " + weight.name + " is looked up by columns; klens-openvino stores rows only"};
    }
  }
}

ov::Output<ov::Node> with_rank(const ov::Output<ov::Node>& matrix, std::size_t rank) {
  if (rank == 2) return matrix;
  ov::Shape shape(rank - 2, 1);
  shape.insert(shape.end(), {matrix.get_shape()[0], matrix.get_shape()[1]});
  return std::make_shared<op::Reshape>(matrix, op::Constant::create(ov::element::i64, {rank}, shape), false);
}

std::filesystem::path temporary(std::filesystem::path xml) {
  return xml.replace_extension(".partial-" + std::to_string(::getpid()) + ".xml");
}

}  // namespace

stored_plan store_plan(checked_ir& ir, const klens::plan& plan, const std::string& plan_path) {
  std::vector<ir_weight> weights = turn_weights_into_inputs(*ir.model, ir.path);
  const ov::ParameterVector inputs = ir.model->get_parameters();
  stored_plan stored;
  for (const planned_weight& each : planned(weights, plan, plan_path, ir.path)) {
    ir_weight& weight = *each.weight;
    stored_plan::share& share = stored.schemes[each.scheme];
    ++share.layers;
    share.bytes += klens::scheme{each.scheme}.bytes(weight.out, weight.in);
    const auto constant = std::dynamic_pointer_cast<op::Constant>(weight.before.get_node()->get_input_size() == 0
                                                                      ? weight.before.get_node_shared_ptr()
                                                                      : weight.before.get_node()->get_input_node_shared_ptr(0));
    const bool is_fp16 = each.scheme == "fp16" && constant->get_element_type() == ov::element::f16;
    if (is_fp16 || each.scheme == "f32") continue;  // as it is
    const ov::Output<ov::Node> input = inputs[weight.input]->output(0);
    read_as_out_in(input, weight, ir.path);
    try {
      weight.before = with_rank(stored_form(weight.name, weight.as_layer().load(), each.scheme), input.get_shape().size());
    } catch (const klens::numeric_error& caught) {
      throw klens::numeric_error{weight.name + ": " + caught.what()};
    }
    weight.values = {};
  }
  for (const ir_weight& each : weights) {
    inputs[each.input]->output(0).replace(each.before);
    ir.model->remove_parameter(inputs[each.input]);
  }
  std::size_t layers = 0;
  for (const auto& [scheme, share] : stored.schemes) layers += share.layers;
  stored.untouched = weights.size() - layers;
  ir.model->validate_nodes_and_infer_types();
  return stored;
}

void expect_writable_ir(const std::filesystem::path& xml) {
  if (xml.extension() != ".xml")
    throw klens::file_error{xml.string() + ": an IR is called NAME.xml; its weights go into NAME.bin"};
  klens::atomic_file{xml};
  klens::atomic_file{weights_file(xml)};
}

void write_ir(const checked_ir& ir, const std::filesystem::path& xml) {
  expect_writable_ir(xml);
  const std::filesystem::path partial = temporary(xml);
  try {
    in_one_line(xml.string() + ": cannot be written", [&] { ov::save_model(ir.model, partial.string(), false); });
    std::filesystem::rename(weights_file(partial), weights_file(xml));
    std::filesystem::rename(partial, xml);
  } catch (...) {
    std::error_code none;
    std::filesystem::remove(partial, none);
    std::filesystem::remove(weights_file(partial), none);
    throw;
  }
}

}  // namespace openvino_adapter
