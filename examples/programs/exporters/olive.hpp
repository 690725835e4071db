#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <span>
#include <string>

#include "exporters/exported.hpp"

namespace klens {

/// The options of Olive's passes Rtn and Gptq, as JSON: bits, group_size and sym of the scheme that most layers have, and
/// `overrides` for the modules of all others. The passes quantize every linear module, so the plan must give each a scheme.
/// Stores     int2, int4 and int8, signed or asym, in groups that divide the columns or in channels; a head also in floats (it
///            is then left alone). Of signed ones Olive takes the scale as the largest magnitude over half the range.
/// Throws     argument_error for any other scheme, for another layer in floats, for a head tied to the embedding that is not
///            in floats, and for q_proj, k_proj and v_proj of a block under different schemes, of which Olive takes one.
/// Checked    olive-ai 0.13.0.
[[nodiscard]] inline exported export_olive(std::span<const stored_layer> layers, bool tied_head) {
  const auto options_of = [](const scheme_parts& form) {
    return nlohmann::ordered_json{{"bits", form.bits},
                                  {"symmetric", form.grid == grid::signed_},
                                  {"group_size", form.group_size ? static_cast<std::int64_t>(form.group_size) : -1}};
  };
  std::map<std::string, std::size_t> uses;
  std::map<std::string, const stored_layer*> attentions;
  bool head = false;
  for (const stored_layer& each : layers) {
    const std::string module = module_of("Olive", each);
    if (is_float(each.scheme)) {
      if (module != "lm_head") throw cannot_store("Olive", each, "its passes quantize every linear module but the head");
      continue;
    }
    const std::optional<scheme_parts> form = parse_integer(each.scheme);
    if (!form || form->scale == scale_kind::f32 || form->grid == grid::absmax ||
        (form->bits != 2 && form->bits != 4 && form->bits != 8))
      throw cannot_store("Olive", each, "it has int2, int4 and int8, each signed or asym");
    expect_whole_groups("Olive", each, form->group_size);
    if (tied_head && module == "lm_head")
      throw cannot_store("Olive", each, "the head is tied to the embedding; pin it to fp16");
    static const std::regex qkv{R"((.*\.)[qkv]_proj)"};
    std::smatch match;
    if (std::regex_match(module, match, qkv)) {
      const auto [first, alone] = attentions.try_emplace(match[1], &each);
      if (!alone && first->second->scheme != each.scheme)
        throw cannot_store("Olive", each,
                           "it gives one scheme to it and " + first->second->layer + ", which has " + first->second->scheme +
                               "; let them share one (--together)");
    }
    head = head || module == "lm_head";
    ++uses[each.scheme];
  }
  if (uses.empty()) throw argument_error{"Olive: the plan quantizes no layer"};
  const std::string usual =
      std::ranges::max_element(uses, [](const auto& a, const auto& b) { return a.second < b.second; })->first;
  nlohmann::ordered_json config = options_of(*parse_integer(usual));
  config["sym"] = config["symmetric"];  // the passes call it so, their overrides do not
  config.erase("symmetric");
  config["lm_head"] = head;
  config["overrides"] = nlohmann::ordered_json::object();
  for (const stored_layer& each : layers)
    if (!is_float(each.scheme) && each.scheme != usual)
      config["overrides"][module_of("Olive", each)] = options_of(*parse_integer(each.scheme));
  return {config.dump(1) + "\n", "the content of FILE as the options of a pass of type Rtn or Gptq in the config of olive run"};
}

}  // namespace klens
