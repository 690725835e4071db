#pragma once

#include <cmath>
#include <cstddef>
#include <klens/detail/instruction_set.hpp>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A matrix of doubles, column by column.
struct columns {
  std::size_t rows = 0;
  std::vector<double> values;

  columns() = default;
  columns(std::size_t of_rows, std::size_t count) : rows(of_rows), values(of_rows * count) {}

  [[nodiscard]] std::span<double> operator[](std::size_t column) noexcept { return {values.data() + column * rows, rows}; }
  [[nodiscard]] std::span<const double> operator[](std::size_t column) const noexcept {
    return {values.data() + column * rows, rows};
  }
};

[[nodiscard]] inline double dot(std::span<const double> a, std::span<const double> b) noexcept {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// a -= factor * b.
inline void subtract(std::span<double> a, double factor, std::span<const double> b) noexcept {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= factor * b[i];
}

/// Solves A x = b for a symmetric, positive definite A of a few hundred rows. (Eigen's decompositions do so as well, but they
/// would take whoever includes klens two seconds of compile time.)
class cholesky {
 public:
  cholesky() = default;

  /// Takes A; its lower half counts.
  explicit cholesky(columns of) : lower_(std::move(of)) {
    for (std::size_t j = 0; j < lower_.rows; ++j) {
      const std::span<double> column = lower_[j].subspan(j);
      for (std::size_t k = 0; k < j; ++k) subtract(column, lower_[k][j], lower_[k].subspan(j));
      const double root = std::sqrt(column[0]);
      for (double& each : column) each /= root;
    }
  }

  [[nodiscard]] std::vector<double> solve(std::span<const double> b) const {
    std::vector<double> x(b.begin(), b.end());
    const std::span<double> all{x};
    for (std::size_t j = 0; j < x.size(); ++j) {
      x[j] /= lower_[j][j];
      subtract(all.subspan(j + 1), x[j], lower_[j].subspan(j + 1));
    }
    for (std::size_t j = x.size(); j-- > 0;) x[j] = (x[j] - dot(all.subspan(j + 1), lower_[j].subspan(j + 1))) / lower_[j][j];
    return x;
  }

  /// Of the inverse of A.
  [[nodiscard]] std::vector<double> inverse_diagonal() const {
    std::vector<double> diagonal(lower_.rows), unit(lower_.rows);
    for (std::size_t j = 0; j < lower_.rows; ++j) {
      unit[j] = 1;
      diagonal[j] = solve(unit)[j];
      unit[j] = 0;
    }
    return diagonal;
  }

 private:
  columns lower_;
};

}  // namespace klens::detail
