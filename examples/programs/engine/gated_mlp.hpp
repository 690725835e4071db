#pragma once

#include <string>
#include "engine/elementwise.hpp"

#include "checkpoint.hpp"
#include "linear.hpp"
#include "part.hpp"

namespace programs {

/// down_scale * down(silu(gate_scale * gate(x)) * up(x)).
struct gated_mlp final : part {
  linear gate_proj, up_proj;  ///< [inner x width]
  linear down_proj;           ///< [width x inner]
  float gate_scale = 1, down_scale = 1;

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale,
              workspace& work) const override {
    namespace simd = klens::detail;
    const workspace::frame frame{work};
    panel gate = work.take(x.rows(), gate_proj.weight->values.rows()), up = work.take(x.rows(), gate.cols());
    gate_proj(x, gate);
    up_proj(x, up);
    simd::map_elements(
        all_of(gate), [this](auto g, auto u) { return simd::silu(g * gate_scale) * u; }, all_of(gate), all_of(up));
    down_proj.add_to(hidden, gate, scale * down_scale);
  }
  [[nodiscard]] double flops(std::size_t length) const override {
    return gate_proj.flops(length) + up_proj.flops(length) + down_proj.flops(length);
  }
};

/// <prefix>gate_proj.weight and its fellows.
[[nodiscard]] inline gated_mlp take_gated_mlp(checkpoint& tensors, const std::string& prefix, std::size_t width,
                                              std::size_t inner, bool bias = false) {
  gated_mlp taken;
  taken.gate_proj = take_linear(tensors, prefix + "gate_proj", inner, width, bias);
  taken.up_proj = take_linear(tensors, prefix + "up_proj", inner, width, bias);
  taken.down_proj = take_linear(tensors, prefix + "down_proj", width, inner, bias);
  return taken;
}

}  // namespace programs
