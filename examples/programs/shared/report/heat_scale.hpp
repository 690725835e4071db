#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include "terminal.hpp"

namespace programs {

/// Shades for damages that span orders of magnitude: equal steps of the logarithm, from the noise floor (or the smallest damage)
/// to the largest one. Shade 0 is what cannot be told from no damage at all.
class heat_scale {
 public:
  static constexpr std::size_t shades = 9;  ///< above shade 0

  /// `floor`: scores no larger mean nothing; 0 where it is not known. Damages that are not finite are passed over.
  heat_scale(double floor, std::span<const double> damages) : floor_{std::max(0.0, floor)} {
    double least = 0, most = 0;
    for (const double each : damages)
      if (std::isfinite(each) && each > floor_) {
        least = least == 0 ? each : std::min(least, each);
        most = std::max(most, each);
      }
    constexpr double most_orders = 1e5;  // further down all damages are alike: none matters beside the largest
    low_ = std::log10(std::max({least, most / most_orders, 1e-300}));
    high_ = std::max(std::log10(std::max(most, 1e-300)), low_ + 1e-9);
  }

  [[nodiscard]] double floor() const noexcept { return floor_; }

  /// 0 for what is not above the floor, else 1 to `shades`.
  [[nodiscard]] std::size_t shade(double damage) const {
    if (!(damage > floor_)) return 0;
    const double share = std::clamp(at(damage), 0.0, 1.0);
    return 1 + std::min(shades - 1, static_cast<std::size_t>(share * shades));
  }

  /// Where a damage stands on the scale: 0 at its beginning, 1 at the largest one.
  [[nodiscard]] double at(double damage) const { return (std::log10(damage) - low_) / (high_ - low_); }

  /// The damage that a shade begins with.
  [[nodiscard]] double begin_of(std::size_t shade) const {
    return std::pow(10, low_ + (high_ - low_) * static_cast<double>(shade - 1) / shades);
  }

 private:
  double floor_;
  double low_ = 0, high_ = 0;  // logarithms
};

/// The scale as an SVG element: its shades from harmless to worst, with damages below the third, sixth ... of their edges.
[[nodiscard]] inline std::string svg_of(const heat_scale& scale, const std::string& unit) {
  constexpr double cell = 26, left = 52, bottom = 30;
  constexpr std::size_t every = 3;
  const double width = left + heat_scale::shades * cell + 40;
  std::string svg = text("<svg width='%.0f' height='54' viewBox='0 0 %.0f 54' role='img' aria-label='scale'>", width, width) +
                    text("<rect class='cell h0' x='0' y='4' width='%.0f' height='12'/>", left - 8) +
                    text("<text x='0' y='%.0f'>%s</text>", bottom, scale.floor() > 0 ? "noise" : "none");
  for (std::size_t shade = 1; shade <= heat_scale::shades; ++shade) {
    const double x = left + static_cast<double>(shade - 1) * cell;
    svg += text("<rect class='cell h%zu' x='%.1f' y='4' width='%.1f' height='12'/>", shade, x, cell - 1);
    if (shade % every == 1)
      svg += text("<text x='%.1f' y='%.0f'%s>%.2g</text>", x, bottom, shade == 1 ? "" : " text-anchor='middle'",
                  scale.begin_of(shade));
  }
  svg += text("<text x='%.1f' y='%.0f' text-anchor='middle'>%.2g</text>", left + heat_scale::shades * cell, bottom,
              scale.begin_of(heat_scale::shades + 1));
  return svg + text("<text x='%.0f' y='%.0f'>%s</text></svg>", left, bottom + 17, unit.c_str());
}

}  // namespace programs
