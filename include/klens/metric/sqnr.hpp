#pragma once

#include <cmath>
#include <klens/concepts.hpp>
#include <limits>
#include <string_view>

namespace klens {

/// Signal to quantization noise of raw logits: 10 log10(sum reference^2 / sum (observed - reference)^2), both sums over all
/// positions and the vocabulary. A contribution is a position's noise, weighted with its energy, so that the mean is the ratio.
/// Unit       dB; +inf where no logit moved; lower is worse.
struct sqnr {
  static constexpr std::string_view name = "sqnr";
  static constexpr std::string_view unit = "dB";
  static constexpr bool higher_is_worse = false;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::squared_error;

  [[nodiscard]] contribution operator()(const position& at) const noexcept {
    return {at.damage.squared_error, at.damage.reference_energy};
  }
  [[nodiscard]] double finish(double ratio) const noexcept { return -10 * std::log10(ratio); }
};
static_assert(metric<sqnr>);

}  // namespace klens
