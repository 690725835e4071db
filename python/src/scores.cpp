#include <nanobind/stl/string.h>

#include <klens/io/json_text.hpp>
#include <klens/io/scores_json.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "module.hpp"
#include "results.hpp"

namespace nb = nanobind;

namespace python {
namespace {

klens::scores_file file_of(const held_scores& held, const std::string& model, const std::string& rank_by, std::size_t length) {
  klens::scores_origin origin;
  origin.model_path = model;
  origin.rank_by = rank_by;
  origin.length = length;
  return {std::move(origin), held.scores};
}

}  // namespace

void add_scores(nb::module_& module) {
  nb::class_<held_scores>(module, "Scores", "Every candidate with its scores; see klens.Scores.")
      .def(
          "json",
          [](const held_scores& held, const std::string& model, const std::string& rank_by, std::size_t length) {
            return klens::json_text(klens::to_json(file_of(held, model, rank_by, length)));
          },
          nb::arg("model") = "", nb::arg("rank_by") = "", nb::arg("length") = 0, "The text of a scores.json.")
      .def(
          "write",
          [](const held_scores& held, const std::string& path, const std::string& model, const std::string& rank_by,
             std::size_t length) { klens::write_scores(path, file_of(held, model, rank_by, length)); },
          nb::arg("path"), nb::arg("model") = "", nb::arg("rank_by") = "", nb::arg("length") = 0,
          "Writes scores.json, whole or not at all.")
      .def_static(
          "read", [](const std::string& path) { return held_scores{klens::read_scores(path).result}; }, nb::arg("path"),
          "Reads scores.json.");
}

}  // namespace python
