#pragma once

#include <klens/concepts.hpp>
#include <string_view>

namespace klens {

/// Mean over positions and the vocabulary of (observed - reference)^2, on raw logits.
/// Unit       squared logits; higher is worse. Unlike the divergences it sees a constant that is added to a row.
/// Edges      -inf in both rows adds 0 and counts as an element; in one alone it gives +inf.
struct mse {
  static constexpr std::string_view name = "mse";
  static constexpr std::string_view unit = "squared logits";
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::squared_error;

  [[nodiscard]] double operator()(const position& at) const noexcept {
    return at.damage.squared_error / static_cast<double>(at.reference.size());
  }
};
static_assert(metric<mse>);

}  // namespace klens
