#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "report/escape.hpp"
#include "terminal.hpp"

namespace programs {

/// One layer in the picture of a model.
struct map_cell {
  std::string row;          ///< its block; empty: outside the blocks, shown below them
  std::string column;       ///< its kind
  std::string look;         ///< CSS class that colours it
  std::string description;  ///< shown when pointed at or touched
  std::size_t key = 0;      ///< the same layer has the same in every picture of a page
};

/// A model at a glance: a row for each block, a column for each kind of layer, in the order in which they come.
struct heat_map {
  std::string title;
  std::vector<map_cell> cells;
};

namespace detail {

inline constexpr double cell_width = 30, cell_height = 20, label_width = 34, heading_height = 92;

[[nodiscard]] inline std::string svg_cell(const map_cell& of, double x, double y, double width) {
  return text("<g class='point' data-key='%zu'><title>%s</title>", of.key, escaped(of.description).c_str()) +
         text("<rect class='touch' x='%.1f' y='%.1f' width='%.2f' height='%.1f'/>", x, y, width, cell_height) +
         text("<rect class='mark cell %s' x='%.1f' y='%.1f' width='%.2f' height='%.1f'/></g>\n", of.look.c_str(), x, y,
              width > 3 ? width - 1 : width, cell_height - 1);
}

}  // namespace detail

/// The map as an SVG element. Layers of the same block and kind, such as experts, share a place side by side.
[[nodiscard]] inline std::string svg_of(const heat_map& map) {
  using namespace detail;
  std::vector<std::string> rows, columns;
  std::vector<const map_cell*> outside;
  const auto add = [](std::vector<std::string>& names, const std::string& name) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  };
  for (const map_cell& each : map.cells) {
    if (each.row.empty()) {
      outside.push_back(&each);
      continue;
    }
    add(rows, each.row);
    add(columns, each.column);
  }
  constexpr double outside_width = 190;  // of a cell with its name beside it
  const double width = label_width + std::max(static_cast<double>(columns.size()) * cell_width, outside_width) + 40;
  const double blocks_end = (rows.empty() ? 4 : heading_height) + static_cast<double>(rows.size()) * cell_height;
  const double height = blocks_end + 8 + static_cast<double>(outside.size()) * cell_height + 4;
  std::string svg = text("<svg width='%.0f' height='%.0f' viewBox='0 0 %.0f %.0f' role='img' aria-label='%s'>", width, height,
                         width, height, escaped(map.title).c_str());
  for (std::size_t c = 0; c < columns.size(); ++c)
    svg += text("<text class='label' transform='translate(%.1f %.1f) rotate(-60)'>%s</text>",
                label_width + (static_cast<double>(c) + 0.6) * cell_width, heading_height - 6, escaped(columns[c]).c_str());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double y = heading_height + static_cast<double>(r) * cell_height;
    svg += text("<text x='%.1f' y='%.1f' text-anchor='end'>%s</text>", label_width - 6, y + 14, escaped(rows[r]).c_str());
    for (std::size_t c = 0; c < columns.size(); ++c) {
      std::vector<const map_cell*> here;
      for (const map_cell& each : map.cells)
        if (each.row == rows[r] && each.column == columns[c]) here.push_back(&each);
      const double share = cell_width / static_cast<double>(std::max<std::size_t>(here.size(), 1));
      for (std::size_t i = 0; i < here.size(); ++i)
        svg += svg_cell(*here[i], label_width + static_cast<double>(c) * cell_width + static_cast<double>(i) * share, y, share);
    }
  }
  for (std::size_t i = 0; i < outside.size(); ++i) {
    const double y = blocks_end + 8 + static_cast<double>(i) * cell_height;
    svg += svg_cell(*outside[i], label_width, y, cell_width) + text("<text class='label' x='%.1f' y='%.1f'>%s</text>",
                                                                    label_width + cell_width + 6, y + 14,
                                                                    escaped(outside[i]->column).c_str());
  }
  return svg + "</svg>";
}

/// What a layer's name says of the block it is in: "7" of "model.layers.7.mlp.up_proj.weight" and "blk.7.ffn_up.weight", "2.3" of
/// "levels.2.blocks.3.mixer.in_proj.weight"; empty for a layer outside the blocks.
[[nodiscard]] inline std::string block_label(std::string_view name) {
  std::string label;
  std::string_view before;
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t dot = std::min(name.find('.', at), name.size());
    const std::string_view part = name.substr(at, dot - at);
    if (!part.empty() && part.find_first_not_of("0123456789") == part.npos) {
      label += (label.empty() ? "" : ".") + std::string{part};
      if (before != "levels" && before != "stages") return label;
    }
    before = part;
    at = dot + 1;
  }
  return label;
}

}  // namespace programs
