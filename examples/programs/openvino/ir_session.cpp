#include "ir_session.hpp"

#include <algorithm>
#include <array>
#include <klens/error.hpp>
#include <openvino/core/preprocess/pre_post_process.hpp>

namespace openvino_adapter {
namespace {

// Ids come as i32 and logits leave as f32, whatever the model's own types.
std::shared_ptr<ov::Model> with_plain_types(const std::shared_ptr<ov::Model>& model, std::size_t output) {
  ov::preprocess::PrePostProcessor ends{model};
  ends.input(0).tensor().set_element_type(ov::element::i32);
  ends.output(output).tensor().set_element_type(ov::element::f32);
  return ends.build();
}

std::string noted(const ov::Node& node, const char* what) {
  const auto found = node.get_rt_info().find(what);
  return found == node.get_rt_info().end() ? std::string{} : found->second.as<std::string>();
}

}  // namespace

ov::AnyMap exact_settings(std::size_t threads) {
  const auto streams = static_cast<int>(threads);
  return {ov::hint::inference_precision(ov::element::f32), ov::hint::dynamic_quantization_group_size(0),
          ov::hint::enable_hyper_threading(true), ov::num_streams(streams), ov::inference_num_threads(streams)};
}

ir_session::ir_session(const checked_ir& ir, const std::string& device, const ov::AnyMap& settings, std::size_t requests)
    : device_{device}, output_{ir.output}, vocabulary_{ir.vocabulary}, length_{ir.length} {
  in_one_line(ir.path + ": OpenVINO cannot compile it for " + device, [&] {
    compiled_ = core().compile_model(with_plain_types(ir.model->clone(), output_), device, settings);
    for (std::size_t i = 0; i < requests; ++i) requests_.push_back(compiled_.create_infer_request());
  });
}

void ir_session::set_input(std::size_t input, const ov::Tensor& values) {
  for (ov::InferRequest& request : requests_) request.set_input_tensor(input, values);
}

klens::matrix<float> ir_session::logits(std::span<const std::int32_t> tokens, std::size_t length) {
  expect_length(length);
  const std::size_t sequences = tokens.size() / length;
  klens::matrix<float> logits(tokens.size(), vocabulary_);
  for (std::size_t first = 0; first < sequences; first += requests_.size()) {
    const std::size_t at_once = std::min(requests_.size(), sequences - first);
    for (std::size_t i = 0; i < at_once; ++i) start(requests_[i], tokens.subspan((first + i) * length, length));
    for (std::size_t i = 0; i < at_once; ++i) {
      in_one_line("OpenVINO cannot run this model on sequences of " + std::to_string(length) + " tokens",
                  [&] { requests_[i].wait(); });
      const ov::Tensor out = requests_[i].get_output_tensor(output_);
      if (out.get_shape() != ov::Shape{1, length, vocabulary_})
        throw klens::shape_error{"the model gave logits " + ov::PartialShape{out.get_shape()}.to_string() + " for " +
                                 std::to_string(length) + " tokens"};
      std::ranges::copy(std::span(out.data<const float>(), out.get_size()), logits.data() + (first + i) * length * vocabulary_);
    }
  }
  return logits;
}

void ir_session::run(std::span<const std::int32_t> tokens) {
  expect_length(tokens.size());
  start(requests_[0], tokens);
  in_one_line("OpenVINO cannot run this model on " + std::to_string(tokens.size()) + " tokens", [&] { requests_[0].wait(); });
}

std::string ir_session::settings() const {
  std::string all = device_;
  const std::vector<ov::PropertyName> known = compiled_.get_property(ov::supported_properties);
  const auto knows = [&](const std::string& name) { return std::ranges::find(known, name) != known.end(); };
  if (knows(ov::hint::inference_precision.name()))
    all += " in " + compiled_.get_property(ov::hint::inference_precision).get_type_name();
  if (knows(ov::hint::dynamic_quantization_group_size.name()))
    all += ", dynamic quantization in groups of " +
           std::to_string(compiled_.get_property(ov::hint::dynamic_quantization_group_size));
  return all;
}

std::pair<std::size_t, std::size_t> ir_session::compressed_matrices() const {
  std::size_t compressed = 0, all = 0;
  for (const auto& node : compiled_.get_runtime_model()->get_ordered_ops()) {
    const std::string type = noted(*node, "layerType");
    const bool fused = type == "LLMMLP" || type == "QKVProjection";  // three products in one
    const std::size_t matrices = fused ? 3 : type == "FullyConnected" ? 1 : 0;
    for (std::size_t i = 1; i <= matrices; ++i) {
      const std::string kept = noted(*node->get_input_node_ptr(i), "outputPrecisions");
      compressed += std::ranges::any_of(std::array{"i4", "u4", "i8", "u8"}, [&](const char* each) { return kept == each; });
    }
    all += matrices;
  }
  return {compressed, all};
}

void ir_session::start(ov::InferRequest& request, std::span<const std::int32_t> tokens) const {
  ov::Tensor ids{ov::element::i32, {1, tokens.size()}};
  std::ranges::copy(tokens, ids.data<std::int32_t>());
  request.set_input_tensor(0, ids);
  request.start_async();
}

void ir_session::expect_length(std::size_t length) const {
  if (!length_.compatible(static_cast<ov::Dimension::value_type>(length)))
    throw klens::argument_error{"--length " + std::to_string(length) + ": the model takes sequences of " + length_.to_string() +
                                " tokens"};
}

}  // namespace openvino_adapter
