#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "report/escape.hpp"
#include "report/scatter_plot.hpp"
#include "terminal.hpp"

namespace programs {

struct page_table {
  std::vector<std::string> heading;
  std::vector<std::vector<std::string>> rows;
  std::string caption;
  bool folded = false;  ///< only its caption is seen until it is opened
};

/// A drawing, made by one of the svg_of.
struct page_figure {
  std::string svg;
  std::string title = {};
  bool scrolled = false;  ///< a long one: its reader scrolls within it
};

/// A report as one HTML file that needs nothing else, and no network: headings, paragraphs, tables and plots, in the order in
/// which they are added. It follows the reader's choice of light or dark, and fits a phone. All texts are plain.
class report_page {
 public:
  explicit report_page(std::string title) : title_{std::move(title)} {}

  void add_heading(const std::string& plain) { body_ += "<h2>" + escaped(plain) + "</h2>\n"; }
  void add_paragraph(const std::string& plain) { body_ += "<p>" + escaped(plain) + "</p>\n"; }

  /// The first column is aligned to the left, all others to the right.
  void add_table(const page_table& table) {
    body_ += table.folded ? "<details><summary>" + escaped(table.caption) + "</summary>" : std::string{};
    if (!table.folded && !table.caption.empty()) body_ += "<p class='caption'>" + escaped(table.caption) + "</p>";
    body_ += "<div class='wide'><table><thead>" + row("th", table.heading) + "</thead><tbody>";
    for (const auto& each : table.rows) body_ += row("td", each);
    body_ += std::string{"</tbody></table></div>"} + (table.folded ? "</details>" : "") + "\n";
  }

  /// Drawings in their own size, side by side where the window is wide enough.
  void add_figures(const std::vector<page_figure>& figures) {
    body_ += "<div class='figures'>\n";
    for (const page_figure& each : figures)
      body_ += "<figure>" + (each.title.empty() ? std::string{} : "<h3>" + escaped(each.title) + "</h3>") + "<div class='" +
               (each.scrolled ? "scrolled" : "whole") + "'>" + each.svg + "</div><output></output></figure>\n";
    body_ += "</div>\n";
  }

  /// Plots side by side, as many as fit, below one legend for all of them.
  void add_plots(std::span<const scatter_plot> plots) {
    std::vector<std::string> names;
    for (const scatter_plot& plot : plots)
      for (const plot_series& each : plot.series)
        if (std::ranges::find(names, each.name) == names.end()) names.push_back(each.name);
    const auto style_of = [&](const std::string& name) {
      return static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
    };
    body_ += "<ul class='legend'>";
    for (std::size_t style = 0; style < names.size(); ++style)
      body_ +=
          "<li><svg viewBox='0 0 14 14'>" + detail::svg_mark(style, 7, 7, false) + "</svg>" + escaped(names[style]) + "</li>";
    body_ += "</ul>\n<div class='plots'>\n";
    for (const scatter_plot& plot : plots) {
      std::size_t missing = 0;
      for (const plot_series& series : plot.series)
        missing += static_cast<std::size_t>(std::ranges::count_if(series.points, std::not_fn(detail::can_be_drawn)));
      body_ += "<figure><h3>" + escaped(plot.title) + "</h3>" + svg_of(plot, style_of) + "<output></output><figcaption>" +
               escaped(plot.caption) + (missing > 0 ? text(" %zu without a finite value not shown.", missing) : "") +
               "</figcaption></figure>\n";
    }
    body_ += "</div>\n";
  }

  [[nodiscard]] std::string html() const {
    return std::string{head} + "<title>" + escaped(title_) + "</title>\n<style>" + style_sheet +
           "</style></head>\n<body><main>\n<h1>" + escaped(title_) + "</h1>\n" + body_ + "</main>\n<script>" + script +
           "</script></body></html>\n";
  }

 private:
  [[nodiscard]] static std::string row(const std::string& tag, const std::vector<std::string>& cells) {
    std::string html = "<tr>";
    for (const std::string& each : cells) html += "<" + tag + ">" + escaped(each) + "</" + tag + ">";
    return html + "</tr>\n";
  }

  // The policy forbids the browser to load anything: the page is what is in the file.
  static constexpr const char* head =
      "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\n"
      "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
      "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'; script-src "
      "'unsafe-inline'\">\n";

  static constexpr const char* style_sheet = R"(
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1e21; --faint: #5c6370; --rule: #dfe2e7;
  --c0: #0072b2; --c1: #c84c00; --c2: #00855f; --c3: #b8508c; --c4: #806600; --c5: #2c8fc4; --c6: #6a4fc0; --c7: #6f7680;
  --h0: #eceff2; --h1: #fdf3d2; --h2: #fde3a0; --h3: #fdc96c; --h4: #fba849; --h5: #f57f36; --h6: #e5542b; --h7: #c52f2d;
  --h8: #951936; --h9: #5c0a37; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181c; --ink: #e6e8eb; --faint: #9aa2ae; --rule: #343a43;
  --c0: #56b4e9; --c1: #ff8f4a; --c2: #35d0a3; --c3: #f29acb; --c4: #e3c43a; --c5: #a5dcff; --c6: #b5a3ff; --c7: #b4bac4;
  --h0: #23262c; --h1: #33264d; --h2: #52256a; --h3: #782a71; --h4: #9f3266; --h5: #c5424f; --h6: #e06136; --h7: #f28c26;
  --h8: #fabd3b; --h9: #fdf3a0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 82rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .25rem; }
p { max-width: 48rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
.caption { color: var(--faint); font-size: .9rem; margin: 1rem 0 -.5rem; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
summary { cursor: pointer; padding: .25rem 0; }
.plots { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
figure text { font-size: 12px; fill: var(--faint); }
figure text.label { fill: var(--ink); }
figcaption, output { display: block; font-size: .85rem; color: var(--faint); overflow-wrap: anywhere; }
output { color: var(--ink); min-height: 1.5em; }
line.grid { stroke: var(--rule); }
line.strip { stroke: var(--faint); stroke-dasharray: 3 3; }
polyline { fill: none; stroke: var(--c); stroke-width: 1.5; }
.mark { fill: var(--c); fill-opacity: .8; stroke: var(--c); stroke-width: 1.2; }
.mark.hollow { fill: var(--paper); fill-opacity: .6; }
.touch { fill: transparent; }
.ring { fill: none; stroke: var(--ink); stroke-width: 1.4; }
.point:hover .mark, .point.chosen .mark { stroke: var(--ink); stroke-width: 2.2; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; align-items: flex-start; margin: .75rem 0; }
.figures figure { max-width: 100%; }
.whole svg { width: auto; max-width: 100%; }
.scrolled { width: 26rem; max-width: 100%; max-height: 34rem; overflow-y: auto; }
.figures output { max-width: 26rem; min-height: 1.5em; }
.cell { fill: var(--c); fill-opacity: 1; stroke: none; }
.cell.unknown { fill: var(--paper); stroke: var(--faint); stroke-dasharray: 2 2; }
.whisker { stroke: var(--ink); stroke-width: 1.2; }
.bracket { stroke: var(--faint); stroke-width: 2; }
.h0 { --c: var(--h0); } .h1 { --c: var(--h1); } .h2 { --c: var(--h2); } .h3 { --c: var(--h3); } .h4 { --c: var(--h4); }
.h5 { --c: var(--h5); } .h6 { --c: var(--h6); } .h7 { --c: var(--h7); } .h8 { --c: var(--h8); } .h9 { --c: var(--h9); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; font-size: .9rem; }
.legend svg { width: 14px; height: 14px; margin-right: .35rem; vertical-align: -2px; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
)";

  // A finger cannot hover: what is pointed at or touched is also written below its plot. What has the same key is the same thing in
  // another figure.
  static constexpr const char* script = R"(
for (const figure of document.querySelectorAll('figure')) {
  const show = event => {
    const point = event.target.closest('.point');
    if (!point) return;
    const key = point.dataset.key;
    for (const each of (key ? document : figure).querySelectorAll('.chosen')) each.classList.remove('chosen');
    for (const each of key ? document.querySelectorAll(`.point[data-key='${key}']`) : [point]) each.classList.add('chosen');
    figure.querySelector('output').textContent = point.querySelector('title').textContent;
  };
  figure.addEventListener('pointerover', show);
  figure.addEventListener('click', show);
}
)";

  std::string title_;
  std::string body_;
};

}  // namespace programs
