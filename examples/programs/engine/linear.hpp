#pragma once

#include <klens/matrix.hpp>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint.hpp"
#include "parameter.hpp"
#include "products.hpp"

namespace programs {

/// x W^T + bias, for x [rows x in] and W [out x in].
struct linear {
  const parameter* weight = nullptr;
  const parameter* bias = nullptr;  ///< null: none

  /// y = linear(x)
  void operator()(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> y) const {
    if (bias == nullptr) return multiply_transposed(x, weight->values, y);
    y.rowwise() = bias->values.row(0);
    add_multiplied_transposed(x, weight->values, 1, y);
  }
  /// y += scale * linear(x)
  void add_to(klens::matrix_ref<float> y, const klens::const_matrix_ref<float>& x, float scale) const {
    add_multiplied_transposed(x, weight->values, scale, y);
    if (bias != nullptr) y.rowwise() += scale * bias->values.row(0);
  }
  [[nodiscard]] double flops(std::size_t rows) const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(weight->values.size());
  }
};

/// <name>.weight and, where wanted, <name>.bias; `parts` are the rows of a fused weight.
[[nodiscard]] inline linear take_linear(checkpoint& tensors, const std::string& name, std::size_t out, std::size_t in,
                                        bool bias, std::vector<row_range> parts = {}) {
  return {tensors.take_weight(name + ".weight", out, in, std::move(parts)), tensors.take_if(bias, name + ".bias", out)};
}

}  // namespace programs
