#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "report/escape.hpp"
#include "terminal.hpp"

namespace programs {

/// A part of a whole.
struct share_bar {
  std::string name;
  double share = 0;         ///< 0 to 1
  std::string description;  ///< shown when pointed at or touched
  std::string look = "c0";  ///< CSS class that colours it
};

/// Shares below one another as an SVG element, the longest bar as wide as there is room.
[[nodiscard]] inline std::string svg_of(const std::string& title, const std::vector<share_bar>& bars) {
  constexpr double width = 300, row = 20, left = 96, right = 246;
  double most = 0;
  for (const share_bar& each : bars) most = std::max(most, each.share);
  const double height = static_cast<double>(bars.size()) * row + 4;
  std::string svg = text("<svg width='%.0f' height='%.0f' viewBox='0 0 %.0f %.0f' role='img' aria-label='%s'>", width, height,
                         width, height, escaped(title).c_str());
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const share_bar& each = bars[i];
    const double y = static_cast<double>(i) * row, length = most > 0 ? (right - left) * each.share / most : 0;
    svg += text("<g class='point'><title>%s</title><rect class='touch' x='0' y='%.1f' width='%.1f' height='%.1f'/>",
                escaped(each.description).c_str(), y, width, row) +
           text("<text class='label' x='%.1f' y='%.1f' text-anchor='end'>%s</text>", left - 6, y + 14,
                escaped(each.name).c_str()) +
           text("<rect class='mark cell %s' x='%.1f' y='%.1f' width='%.1f' height='12'/>", each.look.c_str(), left, y + 4,
                std::max(1.0, length)) +
           text("<text x='%.1f' y='%.1f'>%.1f %%</text></g>\n", left + std::max(1.0, length) + 6, y + 14, 100 * each.share);
  }
  return svg + "</svg>";
}

}  // namespace programs
