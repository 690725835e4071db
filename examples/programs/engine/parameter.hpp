#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <span>
#include <string>
#include <vector>

namespace programs {

/// Rows of a fused weight that have a role of their own: "x" of in_proj.
struct row_range {
  std::string name;
  std::size_t first = 0;
  std::size_t rows = 0;
};

/// A tensor of the model, in float, owned by the model and read anew by every forward: whoever changes it in place changes the
/// model. `values` is [first extent x product of the others], a vector is one row; of stacked matrices [rows of all x in].
struct parameter {
  std::string name;
  std::vector<std::size_t> shape;  ///< as stored
  klens::matrix<float> values;
  std::size_t stage = 0;         ///< the residual step that reads it, counted from 1; 0: none does
  bool multiplies = false;       ///< a weight [out x in] of a matrix product
  std::vector<row_range> parts;  ///< of a fused weight (of each stacked one), in order of rows; empty otherwise
  std::size_t stacked = 0;       ///< so many weights below one another, each a layer of its own; 0: it is one weight

  /// All values of a vector.
  [[nodiscard]] std::span<const float> vector() const noexcept {
    return {values.data(), static_cast<std::size_t>(values.size())};
  }
};

}  // namespace programs
