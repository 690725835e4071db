#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <cstdint>
#include <exporters/text_targets.hpp>
#include <klens/io/json_text.hpp>
#include <klens/io/plan_json.hpp>
#include <klens/plan/constraints.hpp>
#include <klens/plan/exact.hpp>
#include <klens/plan/size.hpp>
#include <klens/plan/units_of.hpp>
#include <klens/quant/round_trip.hpp>
#include <string>
#include <utility>
#include <vector>

#include "layers.hpp"
#include "module.hpp"
#include "results.hpp"

namespace python {
namespace {

/// What a plan is asked to keep to; see klens::plan_constraints and klens::unit_options.
struct plan_request {
  std::string budget{};
  std::string metric = "kl";
  std::vector<std::string> together{}, keep{}, exclude{}, assume_harmless{};
  bool together_by_kind = true;
  std::vector<std::pair<std::string, std::string>> pins{};  ///< pattern, scheme
};

held_plan make(const held_scores& of, const nb::list& layers, const plan_request& asked) {
  klens::unit_options options;
  options.metric = asked.metric;
  options.keep = asked.keep;
  options.assume_harmless = asked.assume_harmless;
  std::vector<klens::layer> views;
  for (nb::handle each : layers) views.push_back(nb::cast<held_layer&>(each).layer);
  klens::scored_units scored = views.empty() ? klens::units_of(of.scores, options)
                                             : klens::units_of(of.scores, std::span<const klens::layer>{views}, options);
  klens::plan_constraints constraints;
  constraints.together = asked.together;
  constraints.together_by_kind = asked.together_by_kind;
  constraints.keep_out = asked.exclude;
  for (const auto& [pattern, scheme] : asked.pins) constraints.pins.push_back({pattern, scheme});
  const std::vector<klens::plan_unit> units = klens::constrain(std::move(scored.units), constraints);
  std::uint64_t weights = 0;
  for (const klens::plan_unit& each : units) weights += each.weights;
  const std::uint64_t budget = klens::parse_budget(asked.budget, weights, 2 * weights);
  klens::plan made = klens::make_plan(klens::exact::name, units, klens::exact{}(units, budget), budget, {}, asked.metric);
  made.unknown = std::move(scored.unknown);
  return {std::move(made)};
}

nb::tuple export_to(const held_plan& of, const std::string& target,
                    const std::map<std::string, std::vector<std::size_t>>& shapes, bool tied_head) {
  std::vector<klens::stored_layer> layers;
  for (const klens::layer_scheme& each : of.plan.layers) {
    const auto shape = shapes.find(each.layer);
    if (shape == shapes.end() || shape->second.size() != 2)
      throw klens::argument_error{"export: the shape of " + each.layer + " is not known"};
    layers.push_back({each.layer, each.scheme, shape->second[0], shape->second[1]});
  }
  const klens::text_target* const found = klens::find_text_target(target);
  if (!found) throw klens::argument_error{"export target " + target + " is none of " + klens::text_target_names()};
  if (found->of_all_layers)
    for (const auto& [name, shape] : shapes)
      if (!of.plan.scheme_of(name) && shape.size() == 2) layers.push_back({name, "fp16", shape[0], shape[1]});
  const klens::exported made = found->make(layers, tied_head);
  return nb::make_tuple(made.text, made.usage);
}

}  // namespace

void add_plan(nb::module_& module) {
  nb::class_<plan_request>(module, "PlanRequest", "What plan() is asked.")
      .def(nb::init<>())
      .def_rw("budget", &plan_request::budget)
      .def_rw("metric", &plan_request::metric)
      .def_rw("together", &plan_request::together)
      .def_rw("together_by_kind", &plan_request::together_by_kind)
      .def_rw("keep", &plan_request::keep)
      .def_rw("exclude", &plan_request::exclude)
      .def_rw("assume_harmless", &plan_request::assume_harmless)
      .def_rw("pins", &plan_request::pins);
  nb::class_<held_plan>(module, "Plan", "A scheme for each layer; see klens.Plan.")
      .def(
          "json", [](const held_plan& held) { return klens::json_text(klens::to_json(held.plan)); }, "The text of a plan.json.")
      .def(
          "write", [](const held_plan& held, const std::string& path) { klens::write_plan(path, held.plan); }, nb::arg("path"),
          "Writes plan.json, whole or not at all.")
      .def_static(
          "read", [](const std::string& path) { return held_plan{klens::read_plan(path)}; }, nb::arg("path"),
          "Reads plan.json.")
      .def("export", &export_to, nb::arg("target"), nb::arg("shapes"), nb::arg("tied_head") = false,
           "The text for another tool, and how it is used.");
  module.def("plan", &make, nb::arg("scores"), nb::arg("layers"), nb::arg("request"));
  module.def(
      "store_as",
      [](held_layer& of, const std::string& name, std::size_t threads) {
        klens::matrix<float> weights = of.layer.load();
        klens::round_trip(klens::scheme{name}, weights, weights, {.threads = threads});
        of.layer.store(weights);
      },
      nb::arg("layer"), nb::arg("scheme"), nb::arg("threads") = 1,
      "Leaves in the layer what storage under the scheme would give back of its weights.");
}

}  // namespace python
