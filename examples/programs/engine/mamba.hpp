#pragma once

#include <string>

#include "checkpoint.hpp"
#include "linear.hpp"
#include "norm.hpp"
#include "part.hpp"

namespace programs {

/// The mixer of Mamba: in_proj to x and gate z, causal conv, x_proj to step, B and C, dt_proj, selective scan, gate, out_proj.
/// Source     Gu and Dao, arXiv:2312.00752, section 3.4; with norms of step, B and C as in Jamba (arXiv:2403.19887).
struct mamba final : part {
  linear in_proj;                        ///< [2 inner x width]: x, then z
  linear x_proj;                         ///< [rank + 2 states x inner]: step, B, C
  linear dt_proj;                        ///< [inner x rank], with bias
  linear out_proj;                       ///< [width x inner]
  const parameter* conv = nullptr;       ///< [inner x 1 x taps]
  const parameter* conv_bias = nullptr;  ///< [inner]; null: none
  const parameter* a_log = nullptr;      ///< [inner x states]
  const parameter* d = nullptr;          ///< [inner]
  rms_norm step_norm, b_norm, c_norm;    ///< false: none

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override;
  /// What stands between in_proj and out_proj: out = silu(gate) * selective scan(silu(conv(x))), all [length x inner].
  void scan(const klens::const_matrix_ref<float>& x, const klens::const_matrix_ref<float>& gate, klens::matrix_ref<float> out,
            const pass& at) const;
  [[nodiscard]] double flops(std::size_t length) const override;
  /// A state of each channel, and the last inputs of the convolution.
  [[nodiscard]] std::vector<kept_vectors> kept() const override;
};

/// What a config says of a Mamba mixer; the names of the tensors are those that all model types share.
struct mamba_shape {
  std::size_t width = 0, inner = 0, states = 0, rank = 0, taps = 0;
  bool conv_bias = false, proj_bias = false;
};
[[nodiscard]] mamba take_mamba(checkpoint& tensors, const std::string& prefix, const mamba_shape& shape);
/// The same without in_proj and out_proj; `index` follows the names of what a list holds ("x_proj.0").
[[nodiscard]] mamba take_mamba_core(checkpoint& tensors, const std::string& prefix, const mamba_shape& shape,
                                    const std::string& index = "");

}  // namespace programs
