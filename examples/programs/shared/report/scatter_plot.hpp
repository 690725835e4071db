#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "report/axis.hpp"
#include "report/escape.hpp"
#include "terminal.hpp"

namespace programs {

struct plot_point {
  double x = 0;
  double y = 0;             ///< a point one of whose values is not finite is not drawn, but counted below the plot
  std::string description;  ///< shown when pointed at or touched
  bool hollow = false;      ///< drawn as an outline: what is not sure
  bool marked = false;      ///< with a ring around it: what stands out
};

struct plot_series {
  std::string name;  ///< the same name has the same colour and shape in all plots that are shown together
  std::vector<plot_point> points;
  bool line = false;  ///< joins the points, in their order
};

struct scatter_plot {
  std::string title;
  axis x;
  axis y;
  std::vector<plot_series> series;
  std::string caption;  ///< below the plot; may be empty
};

namespace detail {

inline constexpr std::size_t plot_colours = 8;

// A mark of a series: colour and shape, told apart by either for 8 series, by both together for 32.
[[nodiscard]] inline std::string svg_mark(std::size_t style, double x, double y, bool hollow) {
  const std::string look = text("class='mark c%zu%s'", style % plot_colours, hollow ? " hollow" : "");
  switch ((style + style / plot_colours) % 4) {
    case 0:
      return text("<circle %s cx='%.1f' cy='%.1f' r='4'/>", look.c_str(), x, y);
    case 1:
      return text("<path %s d='M%.1f %.1fh7v7h-7z'/>", look.c_str(), x - 3.5, y - 3.5);
    case 2:
      return text("<path %s d='M%.1f %.1fl5 5-5 5-5-5z'/>", look.c_str(), x, y - 5);
    default:
      return text("<path %s d='M%.1f %.1fl5 8.5h-10z'/>", look.c_str(), x, y - 5.3);
  }
}

[[nodiscard]] inline bool can_be_drawn(const plot_point& each) { return std::isfinite(each.x) && std::isfinite(each.y); }

// Where in its drawing a plot has what, in units of its own; a phone shows about one pixel for each.
struct plot_frame {
  static constexpr double width = 420, height = 330, left = 62, right = 410, top = 10, bottom = 284;

  axis_scale x, y;

  [[nodiscard]] double across(double share) const noexcept { return left + share * (right - left); }
  [[nodiscard]] double up(double share) const noexcept { return bottom - share * (bottom - top); }

  [[nodiscard]] std::string grid(const scatter_plot& of) const {
    std::string svg;
    const auto line = [&](const char* look, double x1, double y1, double x2, double y2) {
      svg += text("<line class='%s' x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f'/>", look, x1, y1, x2, y2);
    };
    for (const axis_tick& each : x.ticks()) {
      line("grid", across(each.at), top, across(each.at), bottom);
      svg += text("<text x='%.1f' y='%.1f' text-anchor='middle'>%s</text>", across(each.at), bottom + 16, each.label.c_str());
    }
    for (const axis_tick& each : y.ticks()) {
      line("grid", left, up(each.at), right, up(each.at));
      svg += text("<text x='%.1f' y='%.1f' text-anchor='end'>%s</text>", left - 6, up(each.at) + 4, each.label.c_str());
    }
    if (x.has_strip()) line("strip", across(x.strip_end()), top, across(x.strip_end()), bottom);
    if (y.has_strip()) line("strip", left, up(y.strip_end()), right, up(y.strip_end()));
    svg += text("<text class='label' x='%.1f' y='%.1f' text-anchor='middle'>%s</text>", (left + right) / 2, height - 8,
                escaped(of.x.label).c_str());
    svg += text("<text class='label' transform='translate(12 %.1f) rotate(-90)' text-anchor='middle'>%s</text>",
                (top + bottom) / 2, escaped(of.y.label).c_str());
    return svg;
  }
};

[[nodiscard]] inline plot_frame frame_of(const scatter_plot& plot) {
  std::vector<double> xs, ys;
  for (const plot_series& series : plot.series)
    for (const plot_point& each : series.points)
      if (can_be_drawn(each)) {
        xs.push_back(each.x);
        ys.push_back(each.y);
      }
  return {axis_scale{plot.x, xs}, axis_scale{plot.y, ys}};
}

}  // namespace detail

/// A plot as an SVG element. `style_of` numbers series by their name, from 0.
template <class StyleOf>
[[nodiscard]] std::string svg_of(const scatter_plot& plot, const StyleOf& style_of) {
  using frame = detail::plot_frame;
  const frame place = detail::frame_of(plot);
  std::string svg =
      text("<svg viewBox='0 0 %g %g' role='img' aria-label='%s'>", frame::width, frame::height, escaped(plot.title).c_str()) +
      place.grid(plot);
  for (const plot_series& series : plot.series) {
    if (!series.line) continue;
    svg += text("<polyline class='c%zu' points='", style_of(series.name) % detail::plot_colours);
    for (const plot_point& each : series.points)
      if (detail::can_be_drawn(each)) svg += text("%.1f,%.1f ", place.across(place.x.at(each.x)), place.up(place.y.at(each.y)));
    svg += "'/>";
  }
  for (const plot_series& series : plot.series)
    for (const plot_point& each : series.points) {
      if (!detail::can_be_drawn(each)) continue;
      const double x = place.across(place.x.at(each.x)), y = place.up(place.y.at(each.y));
      svg += "<g class='point'><title>" + escaped(each.description) + "</title>" +
             text("<circle class='touch' cx='%.1f' cy='%.1f' r='9'/>", x, y) +
             (each.marked ? text("<circle class='ring' cx='%.1f' cy='%.1f' r='8'/>", x, y) : std::string{}) +
             detail::svg_mark(style_of(series.name), x, y, each.hollow) + "</g>\n";
    }
  return svg + "</svg>";
}

}  // namespace programs
