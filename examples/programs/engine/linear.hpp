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
  const parameter* bias = nullptr;    ///< null: none
  std::size_t first = 0, rows = all;  ///< W is these rows of the weight, and so of the bias

  static constexpr std::size_t all = static_cast<std::size_t>(-1);

  [[nodiscard]] Eigen::Index out() const noexcept {
    return rows == all ? weight->values.rows() : static_cast<Eigen::Index>(rows);
  }
  [[nodiscard]] Eigen::Index in() const noexcept { return weight->values.cols(); }
  [[nodiscard]] klens::const_matrix_ref<float> values() const {
    return weight->values.middleRows(static_cast<Eigen::Index>(first), out());
  }

  [[nodiscard]] auto own_bias() const { return bias->values.row(0).segment(static_cast<Eigen::Index>(first), out()); }

  /// y = linear(x)
  void operator()(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> y) const {
    if (bias == nullptr) return multiply_transposed(x, values(), y);
    y.rowwise() = own_bias();
    add_multiplied_transposed(x, values(), 1, y);
  }
  /// y += scale * linear(x)
  void add_to(klens::matrix_ref<float> y, const klens::const_matrix_ref<float>& x, float scale) const {
    add_multiplied_transposed(x, values(), scale, y);
    if (bias != nullptr) y.rowwise() += scale * own_bias();
  }
  [[nodiscard]] double flops(std::size_t positions) const {
    return 2.0 * static_cast<double>(positions) * static_cast<double>(out()) * static_cast<double>(in());
  }
};

/// <name>.weight and, where wanted, <name>.bias; `parts` are the rows of a fused weight.
[[nodiscard]] inline linear take_linear(checkpoint& tensors, const std::string& name, std::size_t out, std::size_t in,
                                        bool bias, std::vector<row_range> parts = {}) {
  return {tensors.take_weight(name + ".weight", out, in, std::move(parts)), tensors.take_if(bias, name + ".bias", out)};
}

}  // namespace programs
