#include "plan_export.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/quant/scheme.hpp>
#include <span>
#include <string_view>

#include "exporters/auto_round.hpp"
#include "exporters/llama_quantize.hpp"
#include "exporters/mlx_lm.hpp"
#include "exporters/modelopt.hpp"
#include "exporters/nncf.hpp"
#include "exporters/packed.hpp"

namespace programs {
namespace {

constexpr const char* packed_name = "packed";

struct text_target {
  const char* name;
  const char* checked;
  klens::exported (*make)(std::span<const klens::stored_layer> layers, bool tied_head);
};

constexpr std::array<text_target, 5> text_targets{
    {{"nncf", "a Python module; nncf 3.4.0 with openvino 2026.4.1", klens::export_nncf},
     {"llama-quantize", "a --tensor-type-file; its source as in llama-cpp-python 0.3.36, not run",
      klens::export_llama_quantize},
     {"auto-round", "layer_config as JSON; auto-round 0.16.1", klens::export_auto_round},
     {"mlx-lm", "sensitivities as JSON; mlx-lm 0.32.2", klens::export_mlx_lm},
     {"modelopt", "a Python module; nvidia-modelopt 0.47.0",
      [](std::span<const klens::stored_layer> layers, bool) { return klens::export_modelopt(layers); }}}};

const text_target* find_target(const std::string& name) {
  const auto found = std::ranges::find_if(text_targets, [&](const text_target& each) { return name == each.name; });
  return found == text_targets.end() ? nullptr : found;
}

void replace_all(std::string& text, std::string_view from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

}  // namespace

std::string export_help() {
  std::string help =
      "TARGET=PATH: write the plan for another program; what it cannot store is refused. packed (a model folder that klens "
      "evaluate and klens logits run)";
  for (const text_target& each : text_targets) help += std::string{", "} + each.name + " (" + each.checked + ")";
  return help;
}

plan_exports::plan_exports(const std::vector<std::string>& requests) {
  for (const std::string& each : requests) {
    const std::size_t at = each.find('=');
    const std::string target = each.substr(0, at);
    if (at == std::string::npos || at + 1 == each.size())
      throw klens::argument_error{"--export '" + each + "' is not written TARGET=PATH"};
    if (target != packed_name && !find_target(target)) {
      std::string known = packed_name;
      for (const text_target& one : text_targets) known += std::string{", "} + one.name;
      throw klens::argument_error{"--export '" + target + "' is not known; known are " + known};
    }
    requests_.push_back({target, each.substr(at + 1), {}, {}});
    if (target == packed_name)
      expect_new_folder(requests_.back().path);
    else
      klens::atomic_file{requests_.back().path};
  }
}

void plan_exports::prepare(const klens::plan& of, plan_inputs& inputs, const std::filesystem::path& folder) {
  std::vector<klens::stored_layer> layers;
  for (const klens::layer& each : inputs.layers)
    if (const std::string* scheme = of.scheme_of(each.name))
      layers.push_back({each.name, klens::scheme{*scheme}.stored_as(), each.rows(), each.columns()});
  const std::vector<weight> weights = inputs.loaded.weights();
  const bool tied = std::ranges::any_of(weights, &weight::tied);
  for (request& each : requests_) {
    const text_target* const target = find_target(each.target);
    if (!target) {
      expect_packable(folder);
      continue;
    }
    const klens::exported made = target->make(layers, tied);
    each.text = made.text;
    each.usage = made.usage;
    replace_all(each.usage, "FILE", each.path.string());
    replace_all(each.usage, "MODULE", each.path.stem().string());
  }
}

void plan_exports::write(const klens::plan& of, plan_inputs& inputs, const std::filesystem::path& folder) const {
  for (const request& each : requests_) {
    if (each.target == packed_name) {
      write_packed(each.path, of, folder, inputs.loaded, inputs.layers);
      std::printf("packed model written to %s; use it like any model: klens evaluate %s --tokens FILE\n", each.path.c_str(),
                  each.path.c_str());
    } else {
      klens::write_file(each.path, each.text);
      std::printf("plan for %s written to %s; use: %s\n", each.target.c_str(), each.path.c_str(), each.usage.c_str());
    }
  }
}

}  // namespace programs
