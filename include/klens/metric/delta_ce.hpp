#pragma once

#include <cmath>
#include <klens/concepts.hpp>
#include <string_view>

namespace klens {

/// ln P(x) - ln Q(x) of the token x that follows, averaged over the positions that have one: what quantization adds to the
/// cross-entropy. A single position may well gain.
/// Unit       nats; higher is worse.
/// Edges      a next token masked in observed alone gives +inf, in reference alone -inf, in both 0.
struct delta_ce {
  static constexpr std::string_view name = "delta_ce";
  static constexpr std::string_view unit = "nats/token";
  static constexpr bool higher_is_worse = true;
  static constexpr row_sums needs = row_sums::kl;

  [[nodiscard]] contribution operator()(const position& at) const noexcept {
    if (!at.next_token) return {0, 0};
    const double before = static_cast<double>(at.reference[*at.next_token]);
    const double after = static_cast<double>(at.observed[*at.next_token]);
    if (before == after && std::isinf(before)) return 0.0;  // masked in both
    return at.damage.log_partition_change - (after - before);
  }
};
static_assert(metric<delta_ce>);

}  // namespace klens
