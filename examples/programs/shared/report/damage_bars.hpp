#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "report/axis.hpp"
#include "report/escape.hpp"
#include "terminal.hpp"

namespace programs {

/// One layer in the list of bars.
struct damage_bar {
  std::string place;        ///< "4="
  std::string name;         ///< of the layer
  std::string look;         ///< CSS class that colours it
  std::string description;  ///< shown when pointed at or touched
  double damage = 0;        ///< NaN: unknown, no bar
  double low = 0;           ///< ends of the interval; NaN: none
  double high = 0;
  std::size_t group = 0;  ///< ties have the same
  std::size_t key = 0;    ///< as in map_cell
};

/// Bars on a logarithmic axis, in their order; a bracket at the left holds those that share a place.
struct damage_bars {
  std::string title;
  std::string unit;
  double begin = 0;  ///< where the axis begins: damages below it are not told apart
  std::vector<damage_bar> bars;
};

/// The bars as an SVG element.
[[nodiscard]] inline std::string svg_of(const damage_bars& of) {
  constexpr double width = 420, row = 27, left = 44, right = 412, top = 22;
  std::vector<double> values{of.begin};
  for (const damage_bar& each : of.bars)
    for (const double value : {each.damage, each.high})
      if (std::isfinite(value) && value > of.begin) values.push_back(value);
  const axis_scale scale{{of.unit, true}, values};
  const auto across = [&](double value) {
    return left + std::clamp(value > 0 ? scale.at(value) : 0.0, 0.0, 1.0) * (right - left);
  };
  const double height = top + static_cast<double>(of.bars.size()) * row + 4;
  std::string svg = text("<svg viewBox='0 0 %.0f %.0f' role='img' aria-label='%s'>", width, height, escaped(of.title).c_str());
  for (const axis_tick& each : scale.ticks()) {
    const double x = left + each.at * (right - left);
    svg += text("<line class='grid' x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f'/>", x, top - 4, x, height) +
           text("<text x='%.1f' y='12' text-anchor='middle'>%s</text>", x, each.label.c_str());
  }
  for (std::size_t i = 0; i < of.bars.size(); ++i) {
    const damage_bar& each = of.bars[i];
    const double y = top + static_cast<double>(i) * row;
    const bool tied = each.place.ends_with('=') && i + 1 < of.bars.size() && of.bars[i + 1].group == each.group;
    if (tied) svg += text("<line class='bracket' x1='3' y1='%.1f' x2='3' y2='%.1f'/>", y + 4, y + row + 18);
    svg += text("<text x='%.1f' y='%.1f' text-anchor='end'>%s</text>", left - 6, y + 12, escaped(each.place).c_str());
    svg += text("<g class='point' data-key='%zu'><title>%s</title>", each.key, escaped(each.description).c_str());
    svg += text("<rect class='touch' x='0' y='%.1f' width='%.1f' height='%.1f'/>", y, width, row);
    const bool known = std::isfinite(each.damage);
    svg += text("<rect class='mark cell %s' x='%.1f' y='%.1f' width='%.1f' height='8'/>", each.look.c_str(), left, y + 15,
                std::max(1.5, known ? across(each.damage) - left : 0));
    if (known && std::isfinite(each.low))
      svg += text("<line class='whisker' x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f'/>", across(each.low), y + 19,
                  across(each.high), y + 19);
    svg += text("<text class='label' x='%.1f' y='%.1f'>%s</text></g>\n", left, y + 12, escaped(each.name).c_str());
  }
  return svg + "</svg>";
}

}  // namespace programs
