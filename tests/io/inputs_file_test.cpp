#include <klens/io/inputs_file.hpp>

#include <doctest/doctest.h>

#include <klens/error.hpp>
#include <memory>
#include <string>
#include <vector>

#include "support/run_program.hpp"

namespace {

using klens::matrix;
using support::temporary_folder;

std::shared_ptr<const klens::layer_inputs> some_inputs(bool moments) {
  klens::layer_inputs known{7, {0.5f, 0, 2}, {}};
  if (moments) known.second_moments = matrix<float>{{0.5f, 0, 1}, {0, 0, 0}, {1, 0, 2}};
  return std::make_shared<const klens::layer_inputs>(known);
}

}  // namespace

TEST_CASE("inputs file: what was written comes back") {
  const temporary_folder folder;
  const auto path = folder / "inputs.safetensors";
  matrix<float> a = matrix<float>::Ones(2, 3), b = a, c = a;
  std::vector<klens::layer> layers{{"a", a}, {"b", b}, {"c", c}};
  layers[0].inputs = some_inputs(true);
  layers[1].inputs = some_inputs(false);
  layers[2].inputs = std::make_shared<const klens::layer_inputs>();  // which saw nothing
  klens::write_inputs(path, layers, {{"model", "m"}});

  std::vector<klens::layer> again{{"a", a}, {"c", c}};
  klens::read_inputs(path, again, klens::input_need::second_moments, {{"model", "m"}});
  CHECK(again[0].inputs->positions == 7);
  CHECK(again[0].inputs->mean_squares == layers[0].inputs->mean_squares);
  CHECK(again[0].inputs->second_moments == layers[0].inputs->second_moments);
  CHECK(again[1].inputs->positions == 0);
  std::vector<klens::layer> with_squares{{"b", b}};
  klens::read_inputs(path, with_squares, klens::input_need::mean_squares);
  CHECK(with_squares[0].inputs->mean_squares == layers[1].inputs->mean_squares);
}

TEST_CASE("inputs file: of another model, of another kind, without what is asked for") {
  const temporary_folder folder;
  const auto path = folder / "inputs.safetensors";
  matrix<float> a = matrix<float>::Ones(2, 3), wide = matrix<float>::Ones(2, 4);
  std::vector<klens::layer> layers{{"a", a}}, others{{"b", a}}, wider{{"a", wide}};
  layers[0].inputs = some_inputs(false);
  klens::write_inputs(path, layers, {{"model", "m"}});
  const auto complaint = [&](std::vector<klens::layer>& of, klens::input_need what, const char* model = "m") -> std::string {
    try {
      klens::read_inputs(path, of, what, {{"model", model}});
    } catch (const klens::file_error& caught) {
      const std::string text = caught.what();
      REQUIRE(text.starts_with(path.string() + ": "));
      return text.substr(path.string().size() + 2);
    }
    return "";
  };
  using need = klens::input_need;
  CHECK(complaint(layers, need::mean_squares).empty());
  CHECK(complaint(layers, need::mean_squares, "n") ==
        "is of another model; name a file that is not there yet to gather new statistics");
  CHECK(complaint(others, need::mean_squares).starts_with("has no statistics of b"));
  CHECK(complaint(wider, need::mean_squares) == "a has 3 inputs there, 4 in this model");
  CHECK(complaint(layers, need::second_moments).starts_with("has no second moments of a, which a gptq scheme needs"));
  klens::layer_inputs bad = *some_inputs(false);
  bad.mean_squares[1] = -1;
  layers[0].inputs = std::make_shared<const klens::layer_inputs>(bad);
  klens::write_inputs(path, layers, {{"model", "m"}});
  CHECK(complaint(layers, need::mean_squares).find("a mean square of its inputs is -1") != std::string::npos);
  klens::write_safetensors(path, {});
  CHECK(complaint(layers, need::mean_squares, "m").starts_with("holds no statistics of inputs"));
}
