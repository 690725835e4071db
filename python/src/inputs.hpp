#pragma once

#include <cstddef>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/layer_inputs.hpp>
#include <memory>

#include "arrays.hpp"

namespace python {

/// What the inputs of a layer were like, from their mean squares [1, in] and second moments [in, in] (or [0, 0], where they are not
/// known). Throws klens::shape_error for other shapes.
[[nodiscard]] inline std::shared_ptr<const klens::layer_inputs> inputs_of(std::size_t positions, const any_array& mean_squares,
                                                                          const any_array& second_moments) {
  expect_matrix(mean_squares, "mean_squares");
  expect_matrix(second_moments, "second_moments");
  auto made = std::make_shared<klens::layer_inputs>();
  made->positions = positions;
  with_matrix(mean_squares, [&](const auto& from) {
    const klens::matrix<float> values = from.template cast<float>();
    made->mean_squares.assign(values.data(), values.data() + values.size());
  });
  with_matrix(second_moments, [&](const auto& from) { made->second_moments = from.template cast<float>(); });
  return made;
}

}  // namespace python
