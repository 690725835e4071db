#include "position_report.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "terminal.hpp"

namespace programs {
namespace {

std::string cell_of(const klens::position_band& band, bool intervals) {
  if (std::isnan(band.mean)) return "-";
  const std::string mean = text("%.3g", band.mean);
  if (std::isnan(band.low)) return mean;
  if (intervals) return mean + text(" (%.3g .. %.3g)", band.low, band.high);
  return mean + text(" +-%.1g", (band.high - band.low) / 2);
}

std::string growth_text(const klens::damage_growth& growth) {
  if (std::isnan(growth.factor)) return "-";
  const std::string factor = text("x%.2f", growth.factor);
  return std::isnan(growth.low) ? factor : factor + text(" (%.2f .. %.2f)", growth.low, growth.high);
}

}  // namespace

position_report position_report_of(const klens::scores& scores, const ranked_scheme& ranked, bool intervals) {
  position_report report;
  const std::vector<klens::position_band>* longest = nullptr;
  for (const ranked_candidate& each : ranked.candidates)
    if (longest == nullptr || each.score->by_position.size() > longest->size()) longest = &each.score->by_position;
  if (longest == nullptr || longest->empty()) return report;
  std::vector<std::string> heading{"layer"};
  for (const klens::position_band& each : *longest) heading.push_back(text("%zu-%zu", each.first, each.last));
  heading.emplace_back("with each doubling");
  report.rows.push_back(heading);
  std::vector<std::pair<double, std::string>> flags;
  for (const ranked_candidate& each : ranked.candidates) {
    const auto& bands = each.score->by_position;
    if (bands.empty()) continue;
    const klens::damage_growth growth = klens::growth_of(bands);
    std::vector<std::string> cells{each.score->layer};
    for (std::size_t b = 0; b < longest->size(); ++b)
      cells.push_back(b < bands.size() ? cell_of(bands[b], intervals) : std::string{"-"});
    cells.push_back(growth_text(growth));
    report.rows.push_back(cells);
    if (growth.grows())
      flags.emplace_back(growth.factor,
                         each.score->layer + text(": %s becomes %.2f times as large with each doubling of the "
                                                  "position, 95 %% interval %.2f .. %.2f",
                                                  scores.metrics.front().name.c_str(), growth.factor, growth.low, growth.high));
  }
  std::ranges::stable_sort(flags, std::ranges::greater{}, &std::pair<double, std::string>::first);
  for (auto& [factor, sentence] : flags) report.flags.push_back(std::move(sentence));
  return report;
}

}  // namespace programs
