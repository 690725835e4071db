#pragma once
// Plans as JSON, out and in again. Needs nlohmann-json; not part of klens.hpp.

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <klens/detail/float_bits.hpp>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/io/json_text.hpp>
#include <klens/plan/plan.hpp>
#include <klens/quant/scheme_names.hpp>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

/// A value of a plan document with the way to it, for messages: "layers.lm_head.weight".
class plan_field {
 public:
  using json = nlohmann::json;

  plan_field(const json& value, std::string path) : value_{value}, path_{std::move(path)} {}

  [[nodiscard]] bool has(const char* name) const { return value_.is_object() && value_.contains(name); }
  [[nodiscard]] plan_field at(const std::string& name) const {
    if (!value_.is_object()) fail("is not an object");
    const auto found = value_.find(name);
    const std::string path = path_.empty() ? name : path_ + "." + name;
    if (found == value_.end()) throw argument_error{"'" + path + "' is missing"};
    return {*found, path};
  }
  [[nodiscard]] std::vector<std::string> names() const {
    if (!value_.is_object()) fail("is not an object");
    std::vector<std::string> all;
    for (const auto& each : value_.items()) all.push_back(each.key());
    return all;
  }
  [[nodiscard]] std::vector<plan_field> elements() const {
    if (!value_.is_array()) fail("is not a list");
    std::vector<plan_field> all;
    for (std::size_t i = 0; i < value_.size(); ++i) all.emplace_back(value_[i], path_ + "." + std::to_string(i));
    return all;
  }
  [[nodiscard]] bool flag() const {
    if (!value_.is_boolean()) fail("is neither true nor false");
    return value_.get<bool>();
  }
  [[nodiscard]] std::string text() const {
    if (!value_.is_string() || value_.get_ref<const std::string&>().empty()) fail("is not a text");
    return value_.get<std::string>();
  }
  [[nodiscard]] std::uint64_t count() const {
    if (!value_.is_number_unsigned()) fail("is not a whole number of 0 or more");
    return value_.get<std::uint64_t>();
  }
  /// A number, or "inf".
  [[nodiscard]] double number() const {
    if (value_.is_number()) return value_.get<double>();
    if (value_ == "inf") return std::numeric_limits<double>::infinity();
    if (value_ == "-inf") return -std::numeric_limits<double>::infinity();
    fail("is not a number");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw argument_error{(path_.empty() ? "the document" : "'" + path_ + "'") + " " + what};
  }

  const json& value_;
  std::string path_;
};

[[nodiscard]] inline nlohmann::ordered_json plan_number(double value, const char* what) {
  if (detail::is_nan(value)) throw numeric_error{std::string{"plan: "} + what + " is NaN, which no plan can hold"};
  if (detail::is_infinite(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

/// A document, and the names within its field "layers" in their order, which nlohmann::json does not keep.
struct plan_document {
  nlohmann::json root;
  std::vector<std::string> layers;

  /// Refuses names that appear twice in an object, which JSON libraries pass over in silence.
  explicit plan_document(std::string_view text) {
    std::vector<std::set<std::string>> open;
    std::string field;
    root = nlohmann::json::parse(text, [&](int, nlohmann::json::parse_event_t event, nlohmann::json& value) {
      if (event == nlohmann::json::parse_event_t::object_start) open.emplace_back();
      if (event == nlohmann::json::parse_event_t::object_end) open.pop_back();
      if (event != nlohmann::json::parse_event_t::key) return true;
      const std::string& name = value.get_ref<const std::string&>();
      if (!open.back().insert(name).second) throw argument_error{"'" + name + "' appears twice in one object"};
      if (open.size() == 1) field = name;
      if (open.size() == 2 && field == "layers") layers.push_back(name);
      return true;
    });
  }
};

}  // namespace detail

/// A plan as JSON: format "klens-plan", version 1. Layers keep their order, doubles come back bit for bit, infinities are
/// texts. Throws numeric_error at a NaN.
[[nodiscard]] inline nlohmann::ordered_json to_json(const plan& of) {
  using json = nlohmann::ordered_json;
  json layers = json::object(), predicted = json::object(), baselines = json::object();
  for (const layer_scheme& each : of.layers) layers.get_ref<json::object_t&>().emplace_back(each.layer, each.scheme);
  for (const auto& [metric, value] : of.predicted) predicted[metric] = detail::plan_number(value, "predicted damage");
  for (const auto& [name, each] : of.baselines)
    baselines[name] = {{"bytes", each.bytes},
                       {"kl", detail::plan_number(each.kl, "KL")},
                       {"perplexity", detail::plan_number(each.perplexity, "perplexity")}};
  json document{{"format", "klens-plan"},    {"version", 1},
                {"allocator", of.allocator}, {"budget_bytes", of.budget_bytes},
                {"bytes", of.bytes},         {"bits_per_weight", detail::plan_number(of.bits_per_weight, "bits per weight")},
                {"layers", layers},          {"predicted", predicted}};
  if (of.at_run_time)
    document["run_time_memory"] = {{"context", of.at_run_time->context}, {"concurrent", of.at_run_time->concurrent}};
  if (of.measured) {
    json& measured = document["measured"];
    measured = {{"kl", detail::plan_number(of.measured->kl, "KL")},
                {"perplexity", detail::plan_number(of.measured->perplexity, "perplexity")},
                {"top1", detail::plan_number(of.measured->top1, "top-1 agreement")},
                {"positions", of.measured->positions}};
    const auto add_error = [&](const char* name, double error) {  // none with a single sequence
      if (!detail::is_nan(error)) measured[name] = detail::plan_number(error, name);
    };
    add_error("kl_error", of.measured->kl_error);
    add_error("perplexity_error", of.measured->perplexity_error);
    add_error("top1_error", of.measured->top1_error);
  }
  if (!of.unknown.empty()) {
    json& unknown = document["unknown"] = json::array();
    for (const unknown_damage& each : of.unknown)
      unknown.push_back(
          {{"layer", each.layer}, {"scheme", each.scheme}, {"why", each.why}, {"assumed_harmless", each.assumed_harmless}});
  }
  document["baselines"] = baselines;
  return document;
}

/// The other way, from text. "measured", "run_time_memory", "unknown" and "baselines" may be missing; fields that version 1 does
/// not know are passed over. Throws argument_error that names the field, also for a layer that appears twice.
[[nodiscard]] inline plan plan_from_json(std::string_view text) {
  try {
    const detail::plan_document document{text};
    const detail::plan_field root{document.root, ""};
    if (root.at("format").text() != "klens-plan" || root.at("version").count() != 1)
      throw argument_error{"is not a klens-plan document of version 1"};
    plan result;
    result.allocator = root.at("allocator").text();
    result.budget_bytes = root.at("budget_bytes").count();
    result.bytes = root.at("bytes").count();
    result.bits_per_weight = root.at("bits_per_weight").number();
    if (root.has("run_time_memory")) {
      const detail::plan_field memory = root.at("run_time_memory");
      result.at_run_time = {memory.at("context").count(), memory.at("concurrent").count()};
    }
    const detail::plan_field layers = root.at("layers"), predicted = root.at("predicted");
    for (const std::string& name : document.layers)
      result.layers.push_back({name, canonical_scheme_name(layers.at(name).text())});
    for (const std::string& name : predicted.names()) result.predicted[name] = predicted.at(name).number();
    if (root.has("measured")) {
      const detail::plan_field measured = root.at("measured");
      result.measured = {measured.at("kl").number(), measured.at("perplexity").number(), measured.at("top1").number(),
                         measured.at("positions").count()};
      const auto error_of = [&](const char* name) {
        return measured.has(name) ? measured.at(name).number() : std::numeric_limits<double>::quiet_NaN();
      };
      result.measured->kl_error = error_of("kl_error");
      result.measured->perplexity_error = error_of("perplexity_error");
      result.measured->top1_error = error_of("top1_error");
    }
    if (root.has("unknown"))
      for (const detail::plan_field& each : root.at("unknown").elements())
        result.unknown.push_back(
            {each.at("layer").text(), each.at("scheme").text(), each.at("why").text(), each.at("assumed_harmless").flag()});
    if (root.has("baselines")) {
      const detail::plan_field baselines = root.at("baselines");
      for (const std::string& name : baselines.names()) {
        const detail::plan_field each = baselines.at(name);
        result.baselines[name] = {each.at("bytes").count(), each.at("kl").number(), each.at("perplexity").number()};
      }
    }
    return result;
  } catch (const nlohmann::json::exception& caught) {
    throw argument_error{std::string{"is not JSON: "} + caught.what()};
  }
}

/// Writes plan.json, whole or not at all. Throws file_error, numeric_error.
inline void write_plan(const std::filesystem::path& path, const plan& of) { write_file(path, json_text(to_json(of))); }

/// Reads plan.json. Throws file_error, which starts with the path.
[[nodiscard]] inline plan read_plan(const std::filesystem::path& path) {
  std::ifstream stream{path, std::ios::binary};
  if (!stream) throw file_error{path.string() + ": cannot be opened; is this the file that klens plan wrote?"};
  try {
    return plan_from_json(std::string{std::istreambuf_iterator<char>{stream}, {}});
  } catch (const argument_error& caught) {
    throw file_error{path.string() + ": " + caught.what()};
  }
}

}  // namespace klens
