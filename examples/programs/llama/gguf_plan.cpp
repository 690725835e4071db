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

constexpr std::array<std::pair<const char*, llama_ftype>, 34> mixtures{{{"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},
                                                                        {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},
                                                                        {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
                                                                        {"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
                                                                        {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
                                                                        {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
                                                                        {"Q2_K_S", LLAMA_FTYPE_MOSTLY_Q2_K_S},
                                                                        {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S},
                                                                        {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M},
                                                                        {"Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L},
                                                                        {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S},
                                                                        {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
                                                                        {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S},
                                                                        {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},
                                                                        {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K},
                                                                        {"IQ1_S", LLAMA_FTYPE_MOSTLY_IQ1_S},
                                                                        {"IQ1_M", LLAMA_FTYPE_MOSTLY_IQ1_M},
                                                                        {"IQ2_XXS", LLAMA_FTYPE_MOSTLY_IQ2_XXS},
                                                                        {"IQ2_XS", LLAMA_FTYPE_MOSTLY_IQ2_XS},
                                                                        {"IQ2_S", LLAMA_FTYPE_MOSTLY_IQ2_S},
                                                                        {"IQ2_M", LLAMA_FTYPE_MOSTLY_IQ2_M},
                                                                        {"IQ3_XS", LLAMA_FTYPE_MOSTLY_IQ3_XS},
                                                                        {"IQ3_S", LLAMA_FTYPE_MOSTLY_IQ3_S},
                                                                        {"IQ3_M", LLAMA_FTYPE_MOSTLY_IQ3_M},
                                                                        {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL},
                                                                        {"IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS},
                                                                        {"TQ1_0", LLAMA_FTYPE_MOSTLY_TQ1_0},
                                                                        {"TQ2_0", LLAMA_FTYPE_MOSTLY_TQ2_0},
                                                                        {"MXFP4_MOE", LLAMA_FTYPE_MOSTLY_MXFP4_MOE},
                                                                        {"NVFP4", LLAMA_FTYPE_MOSTLY_NVFP4},
                                                                        {"F16", LLAMA_FTYPE_MOSTLY_F16},
                                                                        {"BF16", LLAMA_FTYPE_MOSTLY_BF16},
                                                                        {"Q1_0", LLAMA_FTYPE_MOSTLY_Q1_0},
                                                                        {"Q2_0", LLAMA_FTYPE_MOSTLY_Q2_0}}};

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
                             const tensor_types& decided, const plan_rules& rules) {
  const auto is_open = [&](const std::string& name, ggml_type type) {
    const auto own = decided.find(name);
    return own == decided.end() || own->second == type;
  };
  for (const klens::layer_score& each : scores.candidates)
    if (std::ranges::find(tensors, each.layer) == tensors.end())
      throw klens::argument_error{"the scores have a tensor " + klens::detail::name_text(each.layer) +
                                  " that llama-quantize would not change in this model; rank its tensors again"};
  std::vector<klens::plan_layer> planned;
  for (const std::string& name : tensors) {
    const gguf_tensor& tensor = file.at(name);
    klens::plan_layer& made = planned.emplace_back(klens::plan_layer{name, tensor.rows, tensor.columns});
    if (is_open(name, tensor.type))
      made.untouched = klens::scheme_offer{ggml_format::name_of(tensor.type), file.bytes_in_file(tensor, tensor.type)};
    else if (const ggml_type type = decided.at(name); std::ranges::none_of(scores.schemes(), [&](const std::string& each) {
               return ggml_format{each}.stored_type(tensor.columns) == type;
             }))
      throw klens::argument_error{"the scores do not know " + name + " as " + ggml_format::name_of(type) +
                                  ", which it is told to become; rank with that type, too"};
  }
  klens::unit_options options{.keep = rules.keep, .assume_harmless = rules.assume_harmless};
  if (rules.floor) options.largest_damage = *rules.floor;
  options.offer = [&](const klens::plan_layer& layer, const std::string& scheme) -> std::optional<klens::scheme_offer> {
    const ggml_format format{scheme};
    const gguf_tensor& tensor = file.at(layer.name);
    const ggml_type type = format.stored_type(tensor.columns);
    if (!format.stores(tensor.columns) || type == tensor.type || !is_open(layer.name, type)) return std::nullopt;
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

std::uint64_t budget_of(const file_limit& limit, const gguf_file& file, const gguf_model& model, const mixture_rules& rules,
                        std::span<const klens::plan_unit> units) {
  std::uint64_t fixed = file.file_bytes_as({});
  for (const klens::plan_unit& each : units) {
    const gguf_tensor& tensor = file.at(each.layers[0]);
    fixed -= file.bytes_in_file(tensor, tensor.type);
  }
  const std::uint64_t weights = file.weights();
  const std::uint64_t whole = !limit.like.empty() ? file.file_bytes_as(model.types_in(mixture_of(limit.like), rules))
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
