#pragma once

#include <klens/concepts.hpp>
#include <string_view>

namespace klens {

/// Jensen-Shannon divergence (KL(P, M) + KL(Q, M)) / 2 with M = (P + Q) / 2, averaged over positions: symmetric, at most ln 2.
/// Unit       nats; 0 where the rows agree up to a constant; higher is worse.
/// Edges      finite whatever is masked.
/// Source     Lin 1991, doi:10.1109/18.61115.
struct js {
  static constexpr std::string_view name = "js";
  static constexpr std::string_view unit = "nats/token";
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::js;

  [[nodiscard]] double operator()(const position& at) const noexcept { return at.damage.js; }
};
static_assert(metric<js>);

}  // namespace klens
