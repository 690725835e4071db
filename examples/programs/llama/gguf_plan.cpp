#include "gguf_plan.hpp"

#include <algorithm>
#include <array>
#include <klens/error.hpp>
#include <klens/plan/size.hpp>
#include <regex>
#include <utility>

#include "ggml_format.hpp"

namespace llama_adapter {
namespace {

constexpr std::array<std::pair<const char*, llama_ftype>, 11> mixtures{{{"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},
                                                                        {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},
                                                                        {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
                                                                        {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
                                                                        {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S},
                                                                        {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M},
                                                                        {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S},
                                                                        {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
                                                                        {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S},
                                                                        {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},
                                                                        {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K}}};

}  // namespace

llama_ftype mixture_of(const std::string& name) {
  std::string known;
  for (const auto& [each, mixture] : mixtures) {
    if (name == each) return mixture;
    known += std::string{known.empty() ? "" : ", "} + each;
  }
  throw klens::argument_error{"--like " + klens::detail::name_text(name) + " is not known; known are " + known};
}

klens::scored_units units_of(const klens::scores& scores, std::span<const std::string> tensors, const gguf_file& file,
                             const plan_rules& rules) {
  for (const klens::layer_score& each : scores.candidates)
    if (std::ranges::find(tensors, each.layer) == tensors.end())
      throw klens::argument_error{"the scores have a tensor " + klens::detail::name_text(each.layer) +
                                  " that llama-quantize would not change in this model; rank its tensors again"};
  std::vector<klens::plan_layer> planned;
  for (const std::string& name : tensors) {
    const gguf_tensor& tensor = file.at(name);
    planned.push_back({name, tensor.rows, tensor.columns,
                       klens::scheme_offer{ggml_format::name_of(tensor.type), file.bytes_in_file(tensor, tensor.type)}});
  }
  klens::unit_options options{.keep = rules.keep, .assume_harmless = rules.assume_harmless};
  if (rules.floor) options.largest_damage = *rules.floor;
  options.offer = [&](const klens::plan_layer& layer, const std::string& scheme) -> std::optional<klens::scheme_offer> {
    const ggml_format format{scheme};
    const gguf_tensor& tensor = file.at(layer.name);
    const ggml_type type = format.stored_type(tensor.columns);
    if (!format.stores(tensor.columns) || type == tensor.type) return std::nullopt;
    return klens::scheme_offer{ggml_format::name_of(type), file.bytes_in_file(tensor, type)};
  };
  return klens::units_of(scores, planned, options);
}

tensor_types types_of(std::span<const klens::plan_unit> units, const klens::allocation& chosen, const gguf_file& file) {
  tensor_types types;
  for (std::size_t u = 0; u < units.size(); ++u) {
    const std::string& name = units[u].layers[0];
    const std::string& scheme = units[u].choices[chosen.chosen[u]].schemes[0];
    const ggml_type own = file.at(name).type;
    types[name] = scheme == ggml_format::name_of(own) ? own : ggml_format{scheme}.type();
  }
  return types;
}

std::uint64_t budget_of(const file_limit& limit, const gguf_file& file, const gguf_model& model,
                        std::span<const klens::plan_unit> units) {
  std::uint64_t fixed = file.file_bytes_as({});
  for (const klens::plan_unit& each : units) {
    const gguf_tensor& tensor = file.at(each.layers[0]);
    fixed -= file.bytes_in_file(tensor, tensor.type);
  }
  const std::uint64_t weights = file.weights();
  const std::uint64_t whole = !limit.like.empty() ? file.file_bytes_as(model.types_in(mixture_of(limit.like)))
                              : !limit.bpw.empty()
                                  ? file.metadata_bytes() + klens::parse_budget(limit.bpw + "bpw", weights, 2 * weights)
                                  : klens::parse_budget(limit.size, weights, 2 * weights);
  if (whole <= fixed)
    throw klens::argument_error{"what is not planned takes " + std::to_string(fixed) + " bytes alone; the limit is " +
                                std::to_string(whole)};
  return whole - fixed;
}

std::string type_file_text(const tensor_types& types) {
  std::string text;
  for (const auto& [name, type] : types)
    text += "^" + std::regex_replace(name, std::regex{"\\."}, "\\.") + "$=" + ggml_format::name_of(type) + "\n";
  return text;
}

}  // namespace llama_adapter
