#pragma once

#include <Eigen/Core>
#include <cassert>
#include <cstddef>
#include <klens/detail/instruction_set.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET {

using half = Eigen::half;          ///< IEEE binary16
using bfloat16 = Eigen::bfloat16;  ///< the upper half of a binary32

/// Row-major matrix: logits are [positions x vocabulary], weights [out x in].
template <class Scalar>
using matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A view of somebody else's row-major matrix. Rows are contiguous; the distance between them may be larger than a row.
template <class Scalar>
using matrix_ref = Eigen::Ref<matrix<Scalar>, 0, Eigen::OuterStride<>>;

/// The same, read-only. (Eigen copies into it what is not row-major.)
template <class Scalar>
using const_matrix_ref = Eigen::Ref<const matrix<Scalar>, 0, Eigen::OuterStride<>>;

/// Row `index` as a span; works on a matrix and on both views.
template <class Matrix>
[[nodiscard]] auto row(Matrix&& of, Eigen::Index index) noexcept {
  assert(0 <= index && index < of.rows());
  return std::span(of.data() + index * of.outerStride(), static_cast<std::size_t>(of.cols()));
}

}  // namespace klens
