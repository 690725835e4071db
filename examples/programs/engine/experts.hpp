#pragma once

#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "gated_mlp.hpp"
#include "part.hpp"

namespace programs {

/// A mixture of gated MLPs: the router's softmax over all experts weights those `active` that are likeliest for a position; the
/// weights are not made to sum to 1.
struct experts final : part {
  linear router;  ///< [experts x width]
  std::vector<gated_mlp> each;
  std::size_t active = 1;

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale,
              workspace& work) const override;
  [[nodiscard]] double flops(std::size_t length) const override;
};

/// <prefix>router.weight and <prefix>experts.<i>.gate_proj.weight and their fellows.
[[nodiscard]] experts take_experts(checkpoint& tensors, const std::string& prefix, std::size_t count, std::size_t active,
                                   std::size_t width, std::size_t inner);

}  // namespace programs
