#include "ir_model.hpp"

#include <algorithm>
#include <fstream>
#include <klens/error.hpp>
#include <openvino/core/preprocess/pre_post_process.hpp>
#include <optional>

namespace openvino_adapter {
namespace {

constexpr const char* device = "CPU";

ov::Core& core() {
  static ov::Core only;
  return only;
}

// The runtime's messages begin with where they were thrown; the last line says what happened.
std::string last_line(const std::exception& caught) {
  std::string message = caught.what();
  message.erase(message.find_last_not_of(" \n") + 1);
  return message.substr(message.rfind('\n') + 1);
}

template <class Work>
auto in_one_line(const std::string& what, const Work& work) {
  try {
    return work();
  } catch (const ov::Exception& caught) {
    throw klens::error{what + ": " + last_line(caught)};
  }
}

std::shared_ptr<ov::Model> read(const std::filesystem::path& xml) {
  const std::filesystem::path bin = std::filesystem::path{xml}.replace_extension(".bin");
  for (const auto& each : {xml, bin})
    if (!std::filesystem::is_regular_file(each))
      throw klens::file_error{each.string() + ": there is no such file; klens-openvino wants an IR: model.xml and model.bin"};
  char first = 0;
  std::ifstream{xml} >> first;
  if (first != '<')
    throw klens::file_error{xml.string() + ": is no IR; klens-openvino wants model.xml with model.bin beside it"};
  return in_one_line(xml.string() + ": OpenVINO cannot read it", [&] { return core().read_model(xml.string()); });
}

// Token ids [batch, length], alone. Gives back what the model says of their length.
ov::Dimension checked_input(const ov::Model& model, const std::string& path) {
  std::string names;
  for (const auto& each : model.get_parameters()) names += (names.empty() ? "" : ", ") + each->get_friendly_name();
  const auto refuse = [&](const std::string& problem) { throw klens::file_error{path + ": " + problem}; };
  if (model.get_parameters().size() != 1)
    refuse("has " + std::to_string(model.get_parameters().size()) + " inputs (" + names +
           "); klens-openvino wants token ids [batch, length] alone: export it without cache and mask");
  if (!model.get_variables().empty()) refuse("keeps a state between calls; export it without cache");
  const ov::Output<const ov::Node> input = model.input(0);
  const ov::PartialShape shape = input.get_partial_shape();
  const bool ids = input.get_element_type() == ov::element::i64 || input.get_element_type() == ov::element::i32;
  if (!ids || shape.rank().is_dynamic() || shape.size() != 2)
    refuse("its input " + names + " is " + input.get_element_type().get_type_name() + " " + shape.to_string() +
           "; klens-openvino wants token ids [batch, length]");
  if (!shape[0].compatible(1))
    refuse("takes " + shape[0].to_string() + " sequences at once; export it for a batch of 1 or of any size");
  return shape[1];
}

// The output called logits, or the only one that looks like them: [batch, length, vocabulary].
std::size_t logits_output(const ov::Model& model, const std::string& path) {
  std::vector<std::size_t> candidates;
  std::string shapes;
  for (std::size_t i = 0; i < model.outputs().size(); ++i) {
    const ov::Output<const ov::Node> output = model.output(i);
    const ov::PartialShape shape = output.get_partial_shape();
    shapes += (i ? ", " : "") + shape.to_string();
    if (shape.rank().is_dynamic() || shape.size() != 3 || shape[2].is_dynamic() || !output.get_element_type().is_real())
      continue;
    if (output.get_names().contains("logits")) return i;
    candidates.push_back(i);
  }
  if (candidates.size() != 1)
    throw klens::file_error{path + ": has no logits output [batch, length, vocabulary]; its outputs are " + shapes};
  return candidates[0];
}

// Ids come as i32 and logits leave as f32, whatever the model's own types.
std::shared_ptr<ov::Model> with_plain_types(const std::shared_ptr<ov::Model>& model, std::size_t output) {
  ov::preprocess::PrePostProcessor ends{model};
  ends.input(0).tensor().set_element_type(ov::element::i32);
  ends.output(output).tensor().set_element_type(ov::element::f32);
  return ends.build();
}

std::vector<ov::InferRequest> requests_of(ov::CompiledModel& compiled, std::size_t count) {
  std::vector<ov::InferRequest> requests;
  for (std::size_t i = 0; i < count; ++i) requests.push_back(compiled.create_infer_request());
  return requests;
}

}  // namespace

ir_model::ir_model(const std::filesystem::path& xml, std::size_t threads) : ir_model{read(xml), xml.string(), threads} {}

ir_model::ir_model(const std::shared_ptr<ov::Model>& model, const std::string& path, std::size_t threads)
    : length_{checked_input(*model, path)} {
  output_ = logits_output(*model, path);
  vocabulary_ = static_cast<std::size_t>(model->output(output_).get_partial_shape()[2].get_length());
  untouched_ = model->clone();
  weights_ = turn_weights_into_inputs(*model, path);
  in_one_line(path + ": OpenVINO cannot compile it", [&] {
    const auto threads_of_device = static_cast<int>(threads);
    ov::CompiledModel compiled =
        core().compile_model(with_plain_types(model, output_), device, ov::hint::inference_precision(ov::element::f32),
                             ov::hint::dynamic_quantization_group_size(0), ov::hint::enable_hyper_threading(true),
                             ov::num_streams(threads_of_device), ov::inference_num_threads(threads_of_device));
    requests_ = requests_of(compiled, threads);
  });
  for (ov::InferRequest& request : requests_)
    for (const ir_weight& each : weights_) request.set_input_tensor(each.input, each.values);
}

std::vector<klens::layer> ir_model::layers() {
  using floats = Eigen::Map<klens::matrix<float>>;
  std::vector<klens::layer> all;
  for (ir_weight& each : weights_) {
    const auto out = static_cast<Eigen::Index>(each.out), in = static_cast<Eigen::Index>(each.in);
    float* const data = each.values.data<float>();
    if (each.stored_as_in_out)
      all.emplace_back(
          each.name, each.out, each.in,
          [=](klens::matrix_ref<float> into) {
            into = floats{data, in, out}.transpose();
          },
          [=](klens::const_matrix_ref<float> from) {
            floats{data, in, out} = from.transpose();
          });
    else
      all.emplace_back(each.name, klens::matrix_ref<float>{floats{data, out, in}});
    if (each.tied) all.back().note = "tied to the embedding: the perturbation reaches both uses";
  }
  return all;
}

klens::matrix<float> ir_model::logits(std::span<const std::int32_t> tokens, std::size_t length) {
  return run(requests_, tokens, length);
}

klens::matrix<float> ir_model::default_logits(std::span<const std::int32_t> tokens, std::size_t length) {
  if (default_requests_.empty()) {
    by_default_ = core().compile_model(with_plain_types(untouched_, output_), device);
    default_requests_ = requests_of(by_default_, 1);
  }
  return run(default_requests_, tokens, length);
}

std::string ir_model::default_settings() const {
  return std::string{device} + " in " + by_default_.get_property(ov::hint::inference_precision).get_type_name() +
         ", dynamic quantization in groups of " +
         std::to_string(by_default_.get_property(ov::hint::dynamic_quantization_group_size));
}

klens::matrix<float> ir_model::run(std::vector<ov::InferRequest>& requests, std::span<const std::int32_t> tokens,
                                   std::size_t length) const {
  expect_length(length);
  const std::size_t sequences = tokens.size() / length;
  klens::matrix<float> logits(tokens.size(), vocabulary_);
  for (std::size_t first = 0; first < sequences; first += requests.size()) {
    const std::size_t at_once = std::min(requests.size(), sequences - first);
    for (std::size_t i = 0; i < at_once; ++i) {
      ov::Tensor ids{ov::element::i32, {1, length}};
      std::ranges::copy(tokens.subspan((first + i) * length, length), ids.data<std::int32_t>());
      requests[i].set_input_tensor(0, ids);
      requests[i].start_async();
    }
    for (std::size_t i = 0; i < at_once; ++i) {
      in_one_line("OpenVINO cannot run this model on sequences of " + std::to_string(length) + " tokens",
                  [&] { requests[i].wait(); });
      const ov::Tensor out = requests[i].get_output_tensor(output_);
      if (out.get_shape() != ov::Shape{1, length, vocabulary_})
        throw klens::shape_error{"the model gave logits " + ov::PartialShape{out.get_shape()}.to_string() + " for " +
                                 std::to_string(length) + " tokens"};
      std::ranges::copy(std::span(out.data<const float>(), out.get_size()), logits.data() + (first + i) * length * vocabulary_);
    }
  }
  return logits;
}

void ir_model::expect_length(std::size_t length) const {
  if (!length_.compatible(static_cast<ov::Dimension::value_type>(length)))
    throw klens::argument_error{"--length " + std::to_string(length) + ": the model takes sequences of " + length_.to_string() +
                                " tokens"};
}

}  // namespace openvino_adapter
