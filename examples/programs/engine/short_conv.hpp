#pragma once

#include <string>

#include "checkpoint.hpp"
#include "engine/convolve.hpp"
#include "engine/elementwise.hpp"
#include "linear.hpp"
#include "part.hpp"

namespace programs {

/// The mixer of LFM2: in_proj to B, C and x; out_proj of C * conv(B * x), with a short causal convolution.
/// Source     Liquid AI, LFM2 technical report, arXiv:2511.23404.
struct short_conv final : part {
  linear in_proj;                        ///< [3 width x width]: B, C, x
  linear out_proj;                       ///< [width x width]
  const parameter* conv = nullptr;       ///< [width x 1 x taps]
  const parameter* conv_bias = nullptr;  ///< [width]; null: none

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override {
    const workspace::frame frame{at.work};
    const Eigen::Index length = x.rows(), width = x.cols();
    panel all = at.work.take(length, 3 * width), mixed = at.work.take(length, width), out = at.work.take(length, width);
    in_proj(x, all);
    const auto product = [](auto a, auto b) { return a * b; };
    for (Eigen::Index t = 0; t < length; ++t)
      kernels::map_elements(klens::row(mixed, t), product, klens::row(all.leftCols(width), t),
                            klens::row(all.rightCols(width), t));
    panel taps = at.work.take(conv->values.cols(), width);
    taps = conv->values.transpose();
    convolve(at, this, mixed, taps, conv_bias ? conv_bias->vector() : std::span<const float>{}, out, [](auto v) { return v; });
    for (Eigen::Index t = 0; t < length; ++t)
      kernels::map_elements(klens::row(out, t), product, klens::row(out, t), klens::row(all.middleCols(width, width), t));
    out_proj.add_to(hidden, out, scale);
  }
  [[nodiscard]] double flops(std::size_t length) const override { return in_proj.flops(length) + out_proj.flops(length); }
  [[nodiscard]] std::vector<kept_vectors> kept() const override {
    std::vector<kept_vectors> all;
    add_last_inputs(all, this, prefix_of(conv->name, "conv.weight"), static_cast<std::size_t>(conv->values.cols()),
                    static_cast<std::size_t>(conv->values.rows()));
    return all;
  }
};

[[nodiscard]] inline short_conv take_short_conv(checkpoint& tensors, const std::string& prefix, std::size_t width,
                                                std::size_t taps, bool bias) {
  short_conv taken;
  taken.in_proj = take_linear(tensors, prefix + "in_proj", 3 * width, width, bias,
                              {{"B", 0, width}, {"C", width, width}, {"x", 2 * width, width}});
  taken.out_proj = take_linear(tensors, prefix + "out_proj", width, width, bias);
  taken.conv = tensors.take(prefix + "conv.weight", {width, 1, taps});
  taken.conv_bias = tensors.take_if(bias, prefix + "conv.bias", width);
  return taken;
}

}  // namespace programs
