#pragma once

#include <cstddef>
#include <functional>
#include <klens/matrix.hpp>
#include <klens/quant/scheme.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rounding.hpp"
#include "stored_matrix.hpp"

namespace programs {

/// Rows of a fused weight that have a role of their own: "x" of in_proj.
struct row_range {
  std::string name;
  std::size_t first = 0;
  std::size_t rows = 0;
};

struct parameter;
/// Sees the inputs of each product with some rows of a weight, x [positions x in], from the thread that computes it.
using product_watcher =
    std::function<void(const parameter& of, Eigen::Index first, Eigen::Index rows, const klens::const_matrix_ref<float>& x)>;

/// How the inputs of a product are stored: with scales for each token, or for all tokens of a sequence at once.
struct input_storage {
  klens::scheme storage;
  bool per_tensor = false;

  /// Shapes     x [positions x in]
  void apply(klens::matrix<float>& x) const {
    const std::span<float> all{x.data(), static_cast<std::size_t>(x.size())};
    round_vectors(storage, all, per_tensor ? all.size() : static_cast<std::size_t>(x.cols()));
  }
};

/// A tensor of the model, read anew by every forward: whoever changes it in place changes the model. A weight of a matrix product
/// stays in the type of the file, in `weights`; all others are float, in `values`. Either is [first extent x product of the
/// others], a vector is one row; of stacked matrices [rows of all x in].
struct parameter {
  std::string name;
  std::vector<std::size_t> shape;  ///< as stored
  klens::matrix<float> values;
  stored_matrix weights;
  std::size_t stage = 0;         ///< the residual step that reads it, counted from 1; 0: none does
  bool multiplies = false;       ///< a weight [out x in] of a matrix product
  std::vector<row_range> parts;  ///< of a fused weight (of each stacked one), in order of rows; empty otherwise
  std::size_t stacked = 0;       ///< so many weights below one another, each a layer of its own; 0: it is one weight
  product_watcher watcher;       ///< empty: nobody looks
  std::optional<input_storage> stores_inputs;  ///< none: inputs of the product stay floats

  [[nodiscard]] Eigen::Index rows() const noexcept { return multiplies ? weights.rows() : values.rows(); }
  [[nodiscard]] Eigen::Index columns() const noexcept { return multiplies ? weights.columns() : values.cols(); }
  /// All values of a vector.
  [[nodiscard]] std::span<const float> vector() const noexcept {
    return {values.data(), static_cast<std::size_t>(values.size())};
  }
};

}  // namespace programs
