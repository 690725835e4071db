#pragma once

#include <cmath>
#include <klens/matrix.hpp>
#include "engine/elementwise.hpp"

#include "checkpoint.hpp"
#include "parameter.hpp"

namespace programs {

/// out = (weight + offset) * in / sqrt(mean(in^2) + epsilon), over one row; without a weight it counts as 1 - offset.
inline void normalize_row(std::span<const float> in, std::span<const float> weight, double epsilon, std::span<float> out,
                          float offset = 0) {
  const float square = kernels::sum_elements(in, [](auto x) { return x * x; });
  const auto factor = static_cast<float>(1 / std::sqrt(static_cast<double>(square) / static_cast<double>(in.size()) + epsilon));
  if (weight.empty())
    kernels::map_elements(
        out, [factor](auto x) { return x * factor; }, in);
  else if (offset != 0)
    kernels::map_elements(
        out, [factor, offset](auto x, auto w) { return x * factor * (w + offset); }, in, weight);
  else
    kernels::map_elements(
        out, [factor](auto x, auto w) { return x * factor * w; }, in, weight);
}

/// Root-mean-square norm of each row; out may be x.
struct rms_norm {
  const parameter* weight = nullptr;
  double epsilon = 0;
  float offset = 0;    ///< added to the weight; Gemma and Qwen3-Next store what the factor has above 1
  bool plain = false;  ///< there is no weight

  /// False: there is no norm.
  [[nodiscard]] explicit operator bool() const noexcept { return weight != nullptr || plain; }

  void row(std::span<const float> in, std::span<float> out) const {
    normalize_row(in, weight ? weight->vector() : std::span<const float>{}, epsilon, out, offset);
  }
  void operator()(const klens::const_matrix_ref<float>& x, klens::matrix_ref<float> out) const {
    for (Eigen::Index r = 0; r < x.rows(); ++r) row(klens::row(x, r), klens::row(out, r));
  }
  /// The same for each head of each row by itself: heads are as wide as the weight.
  void of_heads(klens::matrix_ref<float> x) const {
    const std::size_t width = weight->vector().size();
    for (Eigen::Index r = 0; r < x.rows(); ++r) {
      const std::span<float> all = klens::row(x, r);
      for (std::size_t first = 0; first < all.size(); first += width) row(all.subspan(first, width), all.subspan(first, width));
    }
  }
};

/// <name>.weight.
[[nodiscard]] inline rms_norm take_norm(checkpoint& tensors, const std::string& name, std::size_t width, double epsilon,
                                        float offset = 0) {
  return {tensors.take(name + ".weight", {width}), epsilon, offset};
}

}  // namespace programs
