#pragma once

#include <functional>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "gated_mlp.hpp"
#include "part.hpp"

namespace programs {

/// The positions that each of several experts works on, in order.
using expert_positions = std::vector<std::vector<Eigen::Index>>;

/// out += scale * sum over experts i of weights(t, i) * of(i)(x), each at its positions only; out and x are equally wide.
void add_experts(klens::matrix_ref<float> out, const klens::const_matrix_ref<float>& x, float scale,
                 const expert_positions& positions, const klens::const_matrix_ref<float>& weights,
                 const std::function<const part&(std::size_t)>& of, pass& at);

/// A mixture of gated MLPs: the router's softmax over all experts weights those `active` that are likeliest for a position.
struct experts final : part {
  linear router;  ///< [experts x width]
  std::vector<gated_mlp> each;
  std::size_t active = 1;
  bool sum_to_one = false;  ///< the weights of the active ones are divided by their sum

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override;
  [[nodiscard]] double flops(std::size_t length) const override;
};

/// Gated MLPs whose weights the file stacks: gate and up in one tensor [count x 2 inner x width], down [count x width x inner].
[[nodiscard]] std::vector<gated_mlp> take_stacked_mlps(checkpoint& tensors, const std::string& gate_up, const std::string& down,
                                                       std::size_t count, std::size_t width, std::size_t inner);

/// <prefix>router.weight, and <prefix>experts.<i>.gate_proj.weight and their fellows or <prefix>experts.gate_up_proj and
/// down_proj, stacked.
[[nodiscard]] experts take_experts(checkpoint& tensors, const std::string& prefix, std::size_t count, std::size_t active,
                                   std::size_t width, std::size_t inner, const std::string& router = "router");

/// A gated MLP whose result is multiplied, position by position, with a sigmoid of its own.
struct gate_of_position final : part {
  linear gate;  ///< [1 x width]
  gated_mlp of;

  void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const override;
  [[nodiscard]] double flops(std::size_t length) const override { return gate.flops(length) + of.flops(length); }
};

}  // namespace programs
