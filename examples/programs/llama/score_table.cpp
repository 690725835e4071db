#include "score_table.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "comma_list.hpp"
#include "ggml_format.hpp"
#include "terminal.hpp"

namespace llama_adapter {
namespace {

using programs::text;

constexpr const char *heading = "QTYPE", *joint_column = "group0";

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& problem) {
  throw klens::file_error{path.string() + ": " + problem};
}

std::vector<std::string> cells_of(std::string line) {
  if (line.ends_with('\r')) line.pop_back();
  return programs::parts_at_commas(line);
}

// "0.12", "+3.1%"; nothing for an empty cell and for what is no number of at least 0.
std::optional<double> number_in(std::string cell) {
  const bool percent = cell.ends_with('%');
  if (percent) cell.pop_back();
  if (cell.starts_with('+')) cell.erase(0, 1);
  double value = 0;
  const auto [end, problem] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (problem != std::errc{} || end != cell.data() + cell.size() || !std::isfinite(value) || value < 0) return std::nullopt;
  return percent ? value / 100 : value;
}

std::optional<ggml_format> format_named(const std::string& name) {
  try {
    return ggml_format{std::string_view{name}};
  } catch (const klens::argument_error&) {
    return std::nullopt;
  }
}

// What makes a row's numbers doubtful.
void audit(const std::string& type, std::vector<double> values, std::optional<double> joint,
           std::vector<std::string>& remarks) {
  std::erase_if(values, [](double each) { return each == 0; });  // a tensor that keeps its type
  if (values.size() < 2) return;
  std::ranges::sort(values);
  const double least = values.front(), middle = values[values.size() / 2];
  std::size_t ties = 0;
  for (std::size_t i = 1; i < values.size(); ++i) ties += values[i] == values[i - 1] ? 1 : 0;
  if (least * 2 > middle)
    remarks.push_back(
        text("%s: half of the tensors lie between %.3g and twice that: a floor under all values, which is damage "
             "of no tensor",
             type.c_str(), least));
  if (ties > 0) remarks.push_back(text("%s: %zu values are equal to another: these places are undecided", type.c_str(), ties));
  if (!joint) return;
  double sum = 0;
  for (const double each : values) sum += each;
  remarks.push_back(
      text("%s: all tensors together lose %.3g, one by one %.3g in sum: a plan's prediction is off by that factor "
           "of %.2g",
           type.c_str(), *joint, sum, sum / *joint));
}

void add_list(std::vector<std::string>& remarks, const std::string& what, const std::vector<std::string>& names) {
  constexpr std::size_t shown = 8;
  if (names.empty()) return;
  std::string line = what + ": ";
  for (std::size_t i = 0; i < std::min(shown, names.size()); ++i) line += (i ? ", " : "") + names[i];
  if (names.size() > shown) line += text(" and %zu more", names.size() - shown);
  remarks.push_back(line);
}

}  // namespace

bool is_score_table(const std::filesystem::path& path) {
  std::string line;
  std::ifstream file{path};
  std::getline(file, line);
  return cells_of(line).front() == heading;
}

klens::scores read_score_table(const std::filesystem::path& path, const gguf_file& model,
                               std::span<const std::string> tensors) {
  std::ifstream file{path};
  std::string line;
  if (!std::getline(file, line)) refuse(path, "there is no such table");
  const std::vector<std::string> columns = cells_of(line);
  klens::scores all;
  all.metrics = {klens::info_of(klens::any_metric{klens::kl{}})};
  all.complete = true;
  std::vector<std::string> unknown_tensors, unknown_types, missing, absent(tensors.begin(), tensors.end());
  for (std::size_t c = 1; c < columns.size(); ++c)
    if (std::erase(absent, columns[c]) == 0 && columns[c] != joint_column) unknown_tensors.push_back(columns[c]);
  if (absent.size() == tensors.size()) refuse(path, "has no tensor of " + model.path().filename().string());
  for (std::size_t number = 2; std::getline(file, line); ++number) {
    if (line.empty() || line == "\r") continue;
    const std::vector<std::string> cells = cells_of(line);
    if (cells.size() != columns.size())
      refuse(path, text("line %zu has %zu cells, the heading %zu", number, cells.size(), columns.size()));
    const std::optional<ggml_format> format = format_named(cells[0]);
    if (!format) {
      unknown_types.push_back(cells[0]);
      continue;
    }
    std::vector<double> values;
    std::optional<double> joint;
    for (std::size_t c = 1; c < cells.size(); ++c) {
      const std::optional<double> value = number_in(cells[c]);
      if (columns[c] == joint_column) joint = value;
      if (std::ranges::find(tensors, columns[c]) == tensors.end()) continue;
      const gguf_tensor& tensor = model.at(columns[c]);
      klens::layer_score& score = all.candidates.emplace_back();
      score.layer = columns[c];
      score.kind = klens::kind_of(columns[c]);
      score.scheme = format->name();
      score.rows = tensor.rows;
      score.columns = tensor.columns;
      score.bytes = tensor.rows * format->bytes(tensor.columns);
      score.result = value ? klens::outcome::measured : klens::outcome::not_measured;
      score.metrics.emplace_back().mean = value.value_or(klens::metric_score::unknown);
      if (value)
        values.push_back(*value);
      else
        missing.push_back(columns[c] + " as " + cells[0]);
    }
    audit(cells[0], values, joint, all.remarks);
  }
  if (all.candidates.empty()) refuse(path, "has no type of this ggml");
  add_list(all.remarks, "tensors of the table that the model has not, left out", unknown_tensors);
  add_list(all.remarks, "types of the table that this ggml has not, left out", unknown_types);
  add_list(all.remarks, "tensors without a column, which need --keep", absent);
  add_list(all.remarks, "cells without a number, whose damage is unknown", missing);
  return all;
}

std::string score_table_text(const klens::scores& scores) {
  const std::size_t metric = scores.index_of("kl");
  std::vector<std::string> tensors;
  for (const klens::layer_score& each : scores.candidates)
    if (std::ranges::find(tensors, each.layer) == tensors.end()) tensors.push_back(each.layer);
  std::string table = heading;
  for (const std::string& each : tensors) table += "," + each;
  for (const std::string& scheme : scores.schemes()) {
    table += "\n" + scheme;
    for (const std::string& each : tensors) {
      const klens::layer_score* const found = scores.find(each, scheme);
      table += ",";
      if (found && found->says_damage() && std::isfinite(found->metrics[metric].mean))
        table += text("%.9g", found->metrics[metric].mean);
    }
  }
  return table + "\n";
}

}  // namespace llama_adapter
