#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "exporters/exported.hpp"

namespace klens {
namespace detail {

/// The name of the CompressWeightsMode of a scheme, or nothing where NNCF has none.
[[nodiscard]] inline std::optional<std::string> nncf_mode(const std::string& scheme, const scheme_parts& form) {
  if (scheme == "mxfp4") return "MXFP4";
  if (form.family == scheme_family::table) return "NF4";
  if (form.scale == scale_kind::f32 || form.family != scheme_family::integer || form.grid == grid::absmax ||
      (form.bits != 4 && form.bits != 8))
    return std::nullopt;
  return "INT" + std::to_string(form.bits) + (form.grid == grid::signed_ ? "_SYM" : "_ASYM");
}

}  // namespace detail

/// A Python module whose compress(model) lets NNCF's compress_weights store a plan: one pass for each scheme, in which all
/// nodes but those of its layers are in the ignored scope. Node names are those of OpenVINO and ONNX models made from
/// PyTorch; with `tied_head`, lm_head means the embedding too.
/// Stores     int4-signed, int4-asym, nf4 in groups or channels, int8-signed-channel, int8-asym-channel, mxfp4; floats are
///            left alone. Scales of nf4 are in the type of the weights there.
/// Throws     argument_error for any other scheme, and for groups that do not divide the columns.
/// Checked    nncf 3.4.0 with openvino 2026.4.1 and onnx 1.23.2.
[[nodiscard]] inline exported export_nncf(std::span<const stored_layer> layers, bool tied_head) {
  std::map<std::string, std::vector<std::string>> patterns;
  for (const stored_layer& each : layers) {
    const std::string module = module_of("NNCF", each);
    if (is_float(each.scheme)) continue;
    const std::optional<scheme_parts> form = parts_of(each.scheme);
    if (!form || !detail::nncf_mode(each.scheme, *form))
      throw cannot_store("NNCF", each, "it has int4 and int8, each signed or asym, with fp16 scales, nf4 and mxfp4");
    if (form->bits == 8 && form->group_size != 0) throw cannot_store("NNCF", each, "its int8 has one scale for each row");
    expect_whole_groups("NNCF", each, form->group_size);
    std::string pattern;
    for (const char c : module) pattern += c == '.' ? "[./]" : std::string(1, c);
    patterns[each.scheme].push_back(pattern);
    if (tied_head && module == "lm_head") patterns[each.scheme].push_back("model[./]embed_tokens");
  }
  std::string text =
      "# A klens plan for NNCF: model = compress(model) takes an uncompressed OpenVINO or ONNX model that was made from "
      "PyTorch.\n"
      "import nncf\n\nPASSES = [\n";
  for (const auto& [scheme, names] : patterns) {
    const scheme_parts form = *parts_of(scheme);
    text += "    # " + scheme + "\n    (dict(mode=nncf.CompressWeightsMode." + *detail::nncf_mode(scheme, form);
    if (form.bits == 4)
      text += ", group_size=" + (form.group_size ? std::to_string(form.group_size) : "-1") +
              ", ratio=1.0, all_layers=True, backup_mode=nncf.BackupMode.NONE";
    text += "), [\n";
    for (const std::string& each : names) text += "        r\"" + each + "\",\n";
    text += "    ]),\n";
  }
  text +=
      "]\n\n\ndef compress(model):\n"
      "    for options, layers in PASSES:\n"
      "        # every node but these layers and constants, whose names are ignored as well as those of their users\n"
      "        others = r\"^(?!self\\.|Constant|(?:.*[./])?(?:\" + \"|\".join(layers) + r\")/)\"\n"
      "        model = nncf.compress_weights(model, ignored_scope=nncf.IgnoredScope(patterns=[others]), **options)\n"
      "    return model\n";
  return {text, "from MODULE import compress; model = compress(model)"};
}

}  // namespace klens
