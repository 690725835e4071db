#pragma once

#include <klens/concepts.hpp>
#include <string_view>

namespace klens {

/// Share of positions where reference and observed logits are largest at the same token; of equal logits the first one counts.
/// Unit       share, 0 to 1; 1 where the rows agree; lower is worse.
struct top1 {
  static constexpr std::string_view name = "top1";
  static constexpr std::string_view unit = "share";
  static constexpr bool higher_is_worse = false;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::same_top;

  [[nodiscard]] double operator()(const position& at) const noexcept { return at.damage.same_top ? 1 : 0; }
};
static_assert(metric<top1>);

}  // namespace klens
