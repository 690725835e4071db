#include "checked_ir.hpp"

#include <fstream>
#include <vector>

namespace openvino_adapter {
namespace {

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

}  // namespace

ov::Core& core() {
  static ov::Core only;
  return only;
}

std::string last_line(const std::exception& caught) {
  std::string message = caught.what();
  message.erase(message.find_last_not_of(" \n") + 1);
  return message.substr(message.rfind('\n') + 1);
}

checked_ir check_ir(const std::shared_ptr<ov::Model>& model, const std::string& path) {
  checked_ir checked{model, path};
  checked.length = checked_input(*model, path);
  checked.output = logits_output(*model, path);
  checked.vocabulary = static_cast<std::size_t>(model->output(checked.output).get_partial_shape()[2].get_length());
  return checked;
}

checked_ir read_ir(const std::filesystem::path& xml) {
  for (const auto& each : {xml, weights_file(xml)})
    if (!std::filesystem::is_regular_file(each))
      throw klens::file_error{each.string() + ": there is no such file; klens-openvino wants an IR: model.xml and model.bin"};
  char first = 0;
  std::ifstream{xml} >> first;
  if (first != '<')
    throw klens::file_error{xml.string() + ": is no IR; klens-openvino wants model.xml with model.bin beside it"};
  return check_ir(in_one_line(xml.string() + ": OpenVINO cannot read it", [&] { return core().read_model(xml.string()); }),
                  xml.string());
}

}  // namespace openvino_adapter
