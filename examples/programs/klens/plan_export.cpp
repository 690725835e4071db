#include "plan_export.hpp"

#include <algorithm>
#include <cstdio>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/quant/scheme.hpp>
#include <span>
#include <string_view>

#include "exporters/packed.hpp"
#include "exporters/text_targets.hpp"

namespace programs {
namespace {

constexpr const char* packed_name = "packed";

void replace_all(std::string& text, std::string_view from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

}  // namespace

std::string export_help() {
  std::string help =
      "TARGET=PATH: write the plan for another program; what it cannot store is refused. packed (a model folder that klens "
      "evaluate and klens logits run)";
  for (const klens::text_target& each : klens::text_targets) help += std::string{", "} + each.name + " (" + each.checked + ")";
  return help;
}

plan_exports::plan_exports(const std::vector<std::string>& requests) {
  for (const std::string& each : requests) {
    const std::size_t at = each.find('=');
    const std::string target = each.substr(0, at);
    if (at == std::string::npos || at + 1 == each.size())
      throw klens::argument_error{"--export '" + each + "' is not written TARGET=PATH"};
    if (target != packed_name && !klens::find_text_target(target))
      throw klens::argument_error{"--export '" + target + "' is not known; known are " + packed_name + ", " +
                                  klens::text_target_names()};
    requests_.push_back({target, each.substr(at + 1), {}, {}});
    if (target == packed_name)
      expect_new_folder(requests_.back().path);
    else
      klens::atomic_file{requests_.back().path};
  }
}

void plan_exports::prepare(const klens::plan& of, plan_inputs& inputs, const std::filesystem::path& folder) {
  std::vector<klens::stored_layer> planned, all;
  for (const klens::layer& each : inputs.layers) {
    const std::string* const scheme = of.scheme_of(each.name);
    all.push_back({each.name, scheme ? klens::scheme{*scheme}.stored_as() : "fp16", each.rows(), each.columns()});
    if (scheme) planned.push_back(all.back());
  }
  const std::vector<weight> weights = inputs.loaded.weights();
  const bool tied = std::ranges::any_of(weights, &weight::tied);
  for (request& each : requests_) {
    const klens::text_target* const target = klens::find_text_target(each.target);
    if (!target) {
      expect_packable(folder);
      continue;
    }
    const klens::exported made = target->make(target->of_all_layers ? all : planned, tied);
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
