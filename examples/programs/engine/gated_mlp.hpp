#pragma once

#include <string>

#include "activation.hpp"
#include "checkpoint.hpp"
#include "linear.hpp"
#include "part.hpp"

namespace programs {

/// down_scale * down(f(gate_scale * gate(x)) * up(x)).
struct gated_mlp final : part {
  linear gate_proj, up_proj;  ///< [inner x width]
  linear down_proj;           ///< [width x inner]
  float gate_scale = 1, down_scale = 1;
  activation f = activation::silu;

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override {
    workspace& work = at.work;
    const workspace::frame frame{work};
    panel gate = work.take(x.rows(), gate_proj.out()), up = work.take(x.rows(), gate.cols());
    gate_proj(x, gate);
    up_proj(x, up);
    activate(f, all_of(gate), all_of(up), gate_scale);
    down_proj.add_to(hidden, gate, scale * down_scale);
  }
  [[nodiscard]] double flops(std::size_t length) const override {
    return gate_proj.flops(length) + up_proj.flops(length) + down_proj.flops(length);
  }
};

/// Names of the tensors below a prefix, without ".weight".
struct mlp_names {
  const char* gate = "gate_proj";
  const char* up = "up_proj";
  const char* down = "down_proj";
};

/// <prefix>gate_proj.weight and its fellows.
[[nodiscard]] inline gated_mlp take_gated_mlp(checkpoint& tensors, const std::string& prefix, std::size_t width,
                                              std::size_t inner, bool bias = false, activation f = activation::silu,
                                              const mlp_names& names = {}) {
  gated_mlp taken;
  taken.gate_proj = take_linear(tensors, prefix + names.gate, inner, width, bias);
  taken.up_proj = take_linear(tensors, prefix + names.up, inner, width, bias);
  taken.down_proj = take_linear(tensors, prefix + names.down, width, inner, bias);
  taken.f = f;
  return taken;
}

/// The same where gate and up are one tensor <gate_up>.weight [2 inner x width].
[[nodiscard]] inline gated_mlp take_fused_mlp(checkpoint& tensors, const std::string& gate_up, const std::string& down,
                                              std::size_t width, std::size_t inner) {
  gated_mlp taken;
  taken.gate_proj = take_linear(tensors, gate_up, 2 * inner, width, false, {{"gate", 0, inner}, {"up", inner, inner}});
  taken.up_proj = taken.gate_proj;
  taken.gate_proj.rows = taken.up_proj.rows = taken.up_proj.first = inner;
  taken.down_proj = take_linear(tensors, down, width, inner, false);
  return taken;
}

/// down(f(up(x))), without a gate.
struct plain_mlp final : part {
  linear up_proj;    ///< [inner x width]
  linear down_proj;  ///< [width x inner]
  activation f = activation::silu;

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override {
    const workspace::frame frame{at.work};
    panel up = at.work.take(x.rows(), up_proj.out());
    up_proj(x, up);
    activate(f, all_of(up));
    down_proj.add_to(hidden, up, scale);
  }
  [[nodiscard]] double flops(std::size_t length) const override { return up_proj.flops(length) + down_proj.flops(length); }
};

}  // namespace programs
