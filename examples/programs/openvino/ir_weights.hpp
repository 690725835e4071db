#pragma once

#include <cstddef>
#include <klens/layer.hpp>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>

namespace openvino_adapter {

/// A weight matrix of an IR that has become an input of the model.
struct ir_weight {
  std::string name;     ///< as the IR calls the matrix, after its conversion to float
  std::size_t out = 0;  ///< the matrix is [out x in] in a product with activations
  std::size_t in = 0;
  bool stored_as_in_out = false;  ///< how `values` lie in memory: [in x out] rather than [out x in]
  bool tied = false;              ///< an embedding looks its rows up as well
  ov::Tensor values;              ///< float32
  std::size_t input = 0;          ///< of the model's inputs
  ov::Output<ov::Node> before{};  ///< what the model read it from

  /// For klens: [out x in], whichever way it lies in memory. It views `values` and ends with them.
  [[nodiscard]] klens::layer as_layer();
};

/// Makes every constant matrix of the model's MatMuls an input, in the order in which the model uses them; a constant that is
/// multiplied as one row or one column (frequencies of a rotary embedding) stays.
/// Throws klens::file_error, beginning with `path`, for weights that are compressed already or whose layout is not known.
[[nodiscard]] std::vector<ir_weight> turn_weights_into_inputs(ov::Model& model, const std::string& path);

}  // namespace openvino_adapter
