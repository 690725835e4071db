#pragma once

#include <cmath>
#include <klens/matrix.hpp>
#include "engine/elementwise.hpp"

#include "checkpoint.hpp"
#include "parameter.hpp"

namespace programs {

/// out = weight * in / sqrt(mean(in^2) + epsilon), over one row.
inline void normalize_row(std::span<const float> in, std::span<const float> weight, double epsilon, std::span<float> out) {
  const float square = klens::detail::sum_elements(in, [](auto x) { return x * x; });
  const auto factor = static_cast<float>(1 / std::sqrt(static_cast<double>(square) / static_cast<double>(in.size()) + epsilon));
  klens::detail::map_elements(
      out, [factor](auto x, auto w) { return x * factor * w; }, in, weight);
}

/// Root-mean-square norm of each row; out may be x.
struct rms_norm {
  const parameter* weight = nullptr;
  double epsilon = 0;

  void operator()(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> out) const {
    for (Eigen::Index r = 0; r < x.rows(); ++r) normalize_row(klens::row(x, r), weight->vector(), epsilon, klens::row(out, r));
  }
};

/// <name>.weight.
[[nodiscard]] inline rms_norm take_norm(checkpoint& tensors, const std::string& name, std::size_t width, double epsilon) {
  return {tensors.take(name + ".weight", {width}), epsilon};
}

}  // namespace programs
