#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "exporters/exported.hpp"

namespace klens {
namespace detail {

/// compressed-tensors' arguments for the weights of a scheme, or nothing where it has none.
[[nodiscard]] inline std::optional<nlohmann::ordered_json> compressed_tensors_weights(const std::string& scheme) {
  using json = nlohmann::ordered_json;
  const json float4{{"num_bits", 4}, {"type", "float"}, {"symmetric", true}, {"dynamic", false}};
  if (scheme == "mxfp4") {
    json args = float4;
    args.update({{"strategy", "group"}, {"group_size", 32}, {"scale_dtype", "torch.uint8"}});
    return args;
  }
  if (scheme == "nvfp4") {
    json args = float4;
    args.update({{"strategy", "tensor_group"}, {"group_size", 16}, {"scale_dtype", "torch.float8_e4m3fn"}});
    return args;
  }
  if (scheme == "fp8-e4m3-channel")
    return json{{"num_bits", 8}, {"type", "float"}, {"symmetric", true}, {"dynamic", false}, {"strategy", "channel"}};
  const std::optional<scheme_parts> form = parse_integer(scheme);
  if (!form || form->scale == scale_kind::f32) return std::nullopt;
  json args{{"num_bits", form->bits}, {"type", "int"}, {"symmetric", form->grid != grid::asym}, {"dynamic", false}};
  if (form->group_size)
    args.update({{"strategy", "group"}, {"group_size", form->group_size}});
  else
    args["strategy"] = "channel";
  return args;
}

/// The module that vLLM makes of this one and its neighbours: q_proj, k_proj and v_proj become qkv_proj, gate_proj and up_proj
/// gate_up_proj, all experts of a block one. Its own name where it stays alone.
[[nodiscard]] inline std::string vllm_module(const std::string& module) {
  static const std::regex expert{R"((.*\.experts)\.[0-9]+\..*)"}, qkv{R"((.*\.)[qkv]_proj)"},
      gate_up{R"((.*\.)(?:gate|up)_proj)"};
  std::smatch match;
  if (std::regex_match(module, match, expert)) return match[1];
  if (std::regex_match(module, match, qkv)) return match[1].str() + "qkv_proj";
  if (std::regex_match(module, match, gate_up)) return match[1].str() + "gate_up_proj";
  return module;
}

}  // namespace detail

/// The config_groups and ignore list of compressed-tensors, as JSON: what its QuantizationConfig and llm-compressor's
/// QuantizationModifier take, and what vLLM reads of a checkpoint's config. One group a scheme, with its modules by name.
/// Stores     int2 to int8 in groups or channels, symmetric or asym, with scales in the model's type (symmetric ones are its
///            own: the largest magnitude over half the range, so 7.5 for 4 bits); fp8-e4m3-channel, mxfp4, nvfp4; fp16, bf16
///            and f32 are ignored by name.
/// Throws     argument_error for any other scheme, for groups that do not divide the columns, for a head tied to the embedding,
///            which is no module of its own there, and for layers that vLLM merges under different schemes.
/// Checked    compressed-tensors 0.20.1. Source: its quantization/quant_args.py; vLLM's packed_modules_mapping.
[[nodiscard]] inline exported export_compressed_tensors(std::span<const stored_layer> layers, bool tied_head) {
  std::vector<std::pair<std::string, nlohmann::ordered_json>> groups;  // by scheme, in the order of the plan
  nlohmann::ordered_json ignored = nlohmann::ordered_json::array();
  std::map<std::string, const stored_layer*> merged;
  for (const stored_layer& each : layers) {
    const std::string module = module_of("compressed-tensors", each);
    const auto [first, alone] = merged.try_emplace(detail::vllm_module(module), &each);
    if (!alone && first->second->scheme != each.scheme)
      throw cannot_store("compressed-tensors", each,
                         "vLLM makes one of it and " + first->second->layer + ", which has " + first->second->scheme +
                             "; let them share a scheme (--together)");
    if (is_float(each.scheme)) {
      ignored.push_back(module);
      continue;
    }
    const std::optional<nlohmann::ordered_json> args = detail::compressed_tensors_weights(each.scheme);
    if (!args)
      throw cannot_store("compressed-tensors", each, "it has int2 to int8 with fp16 scales, fp8-e4m3-channel, mxfp4 and nvfp4");
    if (tied_head && module == "lm_head")
      throw cannot_store("compressed-tensors", each, "the head is tied to the embedding; pin it to fp16");
    expect_whole_groups("compressed-tensors", each, args->value("group_size", std::size_t{0}));
    auto group = std::ranges::find(groups, each.scheme, &std::pair<std::string, nlohmann::ordered_json>::first);
    if (group == groups.end())
      group = groups.insert(groups.end(), {each.scheme, {{"targets", nlohmann::ordered_json::array()}, {"weights", *args}}});
    group->second["targets"].push_back(module);
  }
  nlohmann::ordered_json config{{"config_groups", nlohmann::ordered_json::object()}, {"ignore", ignored}};
  for (std::size_t i = 0; i < groups.size(); ++i) config["config_groups"]["group_" + std::to_string(i)] = groups[i].second;
  return {config.dump(1) + "\n", "llmcompressor: oneshot(model, recipe=QuantizationModifier(**json.load(open(\"FILE\"))))"};
}

}  // namespace klens
