#pragma once

#include <klens/concepts.hpp>
#include <string_view>

namespace klens {

/// KL(Q || P): the divergence seen from the observed model, averaged over positions. Times the sequence length it is what the
/// code of arXiv:2604.13440 computes.
/// Unit       nats; 0 where the rows agree up to a constant; higher is worse.
/// Edges      a token that is -inf in both rows adds nothing; -inf in reference alone gives +inf.
/// Precision  as kl.
struct reverse_kl {
  static constexpr std::string_view name = "reverse_kl";
  static constexpr std::string_view unit = "nats/token";
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::reverse_kl;

  [[nodiscard]] double operator()(const position& at) const noexcept { return at.damage.reverse_kl; }
};
static_assert(metric<reverse_kl>);

}  // namespace klens
