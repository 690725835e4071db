#pragma once

#include <map>
#include <optional>
#include <regex>
#include <span>
#include <string>

#include "exporters/exported.hpp"

namespace klens {

/// The name that llama.cpp's converter gives to a weight: "blk.3.ssm_x" for "model.layers.3.mamba.x_proj". Nothing where it has
/// none that llama-quantize would quantize (a router of experts).
[[nodiscard]] inline std::optional<std::string> gguf_name(const std::string& module, bool tied_head) {
  if (module == "lm_head") return tied_head ? "token_embd" : "output";
  if (module == "model.embed_tokens" || module == "backbone.embeddings") return "token_embd";
  static const std::regex form{R"((?:model|backbone)\.layers\.([0-9]+)\.((?:[a-z_]+\.)?)(experts\.[0-9]+\.)?([a-z_]+))"};
  std::smatch match;
  if (!std::regex_match(module, match, form)) return std::nullopt;
  static const std::map<std::string, std::string> kinds{
      {"q_proj", "attn_q"},      {"k_proj", "attn_k"},  {"v_proj", "attn_v"},      {"o_proj", "attn_output"},
      {"gate_proj", "ffn_gate"}, {"up_proj", "ffn_up"}, {"down_proj", "ffn_down"}, {"in_proj", "ssm_in"},
      {"x_proj", "ssm_x"},       {"dt_proj", "ssm_dt"}, {"out_proj", "ssm_out"}};
  const auto kind = kinds.find(match[4]);
  if (kind == kinds.end()) return std::nullopt;
  return "blk." + match[1].str() + "." + kind->second + (match[3].matched ? "_exps" : "");
}

/// The file that llama-quantize takes as --tensor-type-file: one anchored pattern in lower case for each tensor, and a last
/// one that keeps all other tensors in f16. Experts of a block are one tensor there and need one scheme. With `tied_head`,
/// lm_head is the embedding.
/// Stores     q4_0, q4_1, q5_0, q5_1, q8_0 (rows of a multiple of 32), q2_k to q6_k (of 256), fp16, bf16, f32.
/// Throws     argument_error for any other scheme, other rows, experts that differ, and names that no tensor has.
/// Checked    not by running it: against the option's source as in llama-cpp-python 0.3.36, and the tensor names of
///            converted jamba and falcon_h1 models.
[[nodiscard]] inline exported export_llama_quantize(std::span<const stored_layer> layers, bool tied_head) {
  std::map<std::string, const stored_layer*> tensors;
  std::string text, listed;
  for (const stored_layer& each : layers) {
    const std::optional<std::string> name = gguf_name(module_of("llama-quantize", each), tied_head);
    if (!name) throw argument_error{"llama-quantize does not quantize " + each.layer + "; keep it out of the plan"};
    const std::optional<scheme_parts> form = parts_of(each.scheme);
    const bool blocks = form && form->family == scheme_family::gguf_block;
    if (!blocks && !is_float(each.scheme))
      throw cannot_store("llama-quantize", each, "it has q4_0 to q8_0, q2_k to q6_k, fp16, bf16 and f32");
    const std::size_t block = each.scheme.ends_with("_k") ? 256 : 32;
    if (blocks && each.columns % block != 0)
      throw cannot_store(
          "llama-quantize", each,
          "its blocks of " + std::to_string(block) + " do not divide " + std::to_string(each.columns) + " columns");
    const auto [known, added] = tensors.try_emplace(*name, &each);
    if (!added && known->second->scheme != each.scheme)
      throw cannot_store("llama-quantize", each,
                         "it is one tensor with " + known->second->layer + ", which has " + known->second->scheme);
    if (!added) continue;
    const std::string pattern = std::regex_replace(*name, std::regex{"\\."}, "\\.") + "\\.weight$";
    text += "^" + pattern + "=" + (each.scheme == "fp16" ? "f16" : each.scheme) + "\n";
    listed += (listed.empty() ? "" : "|") + pattern;
  }
  return {text + (listed.empty() ? "" : "^(?!" + listed + ").*=f16\n"),
          "llama-quantize --tensor-type-file FILE model-f16.gguf model.gguf q8_0"};
}

}  // namespace klens
