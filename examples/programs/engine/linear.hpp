#pragma once

#include <algorithm>
#include <klens/matrix.hpp>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint.hpp"
#include "parameter.hpp"
#include "products.hpp"
#include "workspace.hpp"

namespace programs {

/// x W^T + bias, for x [rows x in] and W [out x in]. W becomes float a panel of rows at a time.
struct linear {
  const parameter* weight = nullptr;
  const parameter* bias = nullptr;    ///< null: none
  std::size_t first = 0, rows = all;  ///< W is these rows of the weight, and so of the bias

  static constexpr std::size_t all = static_cast<std::size_t>(-1);

  [[nodiscard]] Eigen::Index out() const noexcept { return rows == all ? weight->rows() : static_cast<Eigen::Index>(rows); }
  [[nodiscard]] Eigen::Index in() const noexcept { return weight->columns(); }

  [[nodiscard]] auto own_bias() const { return bias->values.row(0).segment(static_cast<Eigen::Index>(first), out()); }

  /// y = linear(x)
  void operator()(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> y) const {
    show(x);
    if (weight->stores_inputs) return multiply(stored(x), y);
    multiply(x, y);
  }
  /// y += scale * linear(x)
  void add_to(klens::matrix_ref<float> y, const klens::const_matrix_ref<float>& x, float scale) const {
    show(x);
    if (weight->stores_inputs) return add_multiplied(y, stored(x), scale);
    add_multiplied(y, x, scale);
  }
  [[nodiscard]] double flops(std::size_t positions) const {
    return 2.0 * static_cast<double>(positions) * static_cast<double>(out()) * static_cast<double>(in());
  }

 private:
  void multiply(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> y) const {
    if (bias != nullptr) y.rowwise() = own_bias();
    for_panels([&](const klens::const_matrix_ref<float>& of, Eigen::Index column) {
      auto into = y.middleCols(column, of.rows());
      bias == nullptr ? multiply_transposed(x, of, into) : add_multiplied_transposed(x, of, 1, into);
    });
  }
  void add_multiplied(klens::matrix_ref<float> y, const klens::const_matrix_ref<float>& x, float scale) const {
    for_panels([&](const klens::const_matrix_ref<float>& of, Eigen::Index column) {
      add_multiplied_transposed(x, of, scale, y.middleCols(column, of.rows()));
    });
    if (bias != nullptr) y.rowwise() += scale * own_bias();
  }

  /// The inputs as they are kept.
  [[nodiscard]] klens::matrix<float> stored(const klens::const_matrix_ref<float>& x) const {
    klens::matrix<float> kept = x;
    weight->stores_inputs->apply(kept);
    return kept;
  }

  void show(const klens::const_matrix_ref<float>& x) const {
    if (weight->watcher) weight->watcher(*weight, static_cast<Eigen::Index>(first), out(), x);
  }

  /// Rows of W as float, 4 MiB at a time (so many that a product packs x seldom): use(panel, the first one's place in W). They
  /// are copied whatever they are kept as, so that results never depend on the type of the file or on where memory happens to lie.
  template <class Use>
  void for_panels(const Use& use) const {
    static workspace_pool pool;
    constexpr Eigen::Index most = 1 << 20, unit = 48;  // floats; rows that kernels of any width take at once
    const Eigen::Index step = std::max(unit, most / in() / unit * unit);
    const workspace_pool::lease work{pool};
    for (Eigen::Index row = 0; row < out(); row += step) {
      const workspace::frame frame{*work};
      panel some = (*work).take(std::min(step, out() - row), in());
      weight->weights.read(static_cast<Eigen::Index>(first) + row, some);
      use(some, row);
    }
  }
};

/// <name>.weight and, where wanted, <name>.bias; `parts` are the rows of a fused weight.
[[nodiscard]] inline linear take_linear(checkpoint& tensors, const std::string& name, std::size_t out, std::size_t in,
                                        bool bias, std::vector<row_range> parts = {}) {
  return {tensors.take_weight(name + ".weight", out, in, std::move(parts)), tensors.take_if(bias, name + ".bias", out)};
}

}  // namespace programs
