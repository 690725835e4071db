#pragma once

#include <klens/concepts.hpp>
#include <string_view>

namespace klens {

/// KL(P || Q): what the observed model loses against the reference, averaged over positions.
///   P = softmax(reference logits of the position), Q = softmax(observed)
/// Unit       nats; 0 where the rows agree up to a constant; higher is worse.
/// Edges      a token that is -inf in both rows adds nothing; -inf in observed alone gives +inf.
/// Precision  relative error below 1e-5 wherever it is above 1e-10 nats.
/// Source     Kullback and Leibler 1951; arXiv:2604.13440 (which uses the reverse); the stable form stands in
///            detail/compare_rows.hpp.
struct kl {
  static constexpr std::string_view name = "kl";
  static constexpr std::string_view unit = "nats/token";
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::kl;

  [[nodiscard]] double operator()(const position& at) const noexcept { return at.damage.kl; }
};
static_assert(metric<kl>);

}  // namespace klens
