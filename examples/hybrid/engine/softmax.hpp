#pragma once

#include <algorithm>
#include <klens/detail/elementwise.hpp>
#include <span>

namespace hybrid {

/// exp(scale * x) / sum exp(scale * x), in place; scale > 0, at least one element.
inline void softmax(std::span<float> x, float scale) {
  namespace simd = klens::detail;
  const float largest = *std::max_element(x.begin(), x.end());
  simd::map_elements(
      x, [=](auto s) { return xsimd::exp((s - largest) * scale); }, x);
  const float total = simd::sum_elements(x, [](auto p) { return p; });
  simd::map_elements(
      x, [=](auto p) { return p * (1 / total); }, x);
}

}  // namespace hybrid
