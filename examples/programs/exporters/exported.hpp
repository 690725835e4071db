#pragma once
// What all exporters share. Each turns the layers of a plan into what another tool reads; none touches a file or a model.

#include <cstddef>
#include <cstdint>
#include <klens/error.hpp>
#include <klens/quant/scheme_names.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <optional>
#include <regex>
#include <string>
#include <string_view>

namespace klens {

/// A layer of a plan with its shape.
struct stored_layer {
  std::string layer;  ///< as in the checkpoint: "model.layers.3.mamba.x_proj.weight"
  std::string scheme;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
};

/// A file for another tool, and the command or call that reads it.
struct exported {
  std::string text;
  std::string usage;  ///< FILE stands for the file's path, MODULE for its name without ending
};

/// The parts of an integer scheme, of that name.
[[nodiscard]] inline std::optional<scheme_parts> parse_integer(std::string_view scheme) {
  const std::optional<scheme_parts> parts = parts_of(scheme);
  return parts && parts->family == scheme_family::integer ? parts : std::nullopt;
}

/// Floats without a scale.
[[nodiscard]] inline bool is_float(std::string_view scheme) noexcept {
  return scheme == "fp16" || scheme == "bf16" || scheme == "f32";
}
[[nodiscard]] inline bool is_half(std::string_view scheme) noexcept { return scheme == "fp16" || scheme == "bf16"; }

/// The error of a scheme that a target cannot store.
[[nodiscard]] inline argument_error cannot_store(std::string_view target, const stored_layer& layer, const std::string& why) {
  return argument_error{std::string{target} + " cannot store " + layer.scheme + ", which the plan gives to " + layer.layer +
                        ": " + why};
}

/// Throws argument_error unless groups of so many columns divide those of the layer; 0: there are none.
inline void expect_whole_groups(std::string_view target, const stored_layer& layer, std::size_t group_size) {
  if (group_size != 0 && layer.columns % group_size != 0)
    throw cannot_store(target, layer, "the groups do not divide its " + std::to_string(layer.columns) + " columns");
}

/// The module that owns a weight: its name without ".weight". Throws argument_error for a name that no module has (a range of
/// rows, characters that need quoting).
[[nodiscard]] inline std::string module_of(std::string_view target, const stored_layer& layer) {
  static const std::regex form{R"(([A-Za-z0-9_.-]+)\.weight)"};
  std::smatch match;
  if (layer.layer.size() > 4096 || !std::regex_match(layer.layer, match, form))
    throw argument_error{std::string{target} + " has no name for " + layer.layer.substr(0, 200) +
                         "; only whole weights of modules can be exported"};
  return match[1];
}

}  // namespace klens
