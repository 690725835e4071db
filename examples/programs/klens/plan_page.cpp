#include "plan_page.hpp"

#include <algorithm>
#include <cstdint>
#include <klens/quant/scheme.hpp>

#include "report/heat_map.hpp"
#include "report/heat_scale.hpp"
#include "report/page.hpp"
#include "report/share_bars.hpp"
#include "terminal.hpp"

namespace programs {
namespace {

constexpr const char* how_to_read_plan =
    "A row of the map is a block of the model, a column a kind of layer, a cell one weight matrix. Its colour is the scheme "
    "that "
    "the plan gives it: pale for the fewest bits, strong for the most, so that what the plan protects stands out. Point at a "
    "cell or touch it to see its size and the damage that its scheme was scored to do.";

// What the plan stores under one scheme.
struct scheme_total {
  std::string name;
  std::size_t layers = 0;
  std::uint64_t bytes = 0;
  std::uint64_t weights = 0;

  [[nodiscard]] double bits() const { return 8 * static_cast<double>(bytes) / static_cast<double>(weights); }
};

std::uint64_t bytes_of(const klens::layer& layer, const std::string& scheme) {
  return klens::scheme{scheme}.bytes(layer.rows(), layer.columns());
}

// Fewest bits first.
std::vector<scheme_total> totals_of(const klens::plan& plan, std::span<const klens::layer> layers) {
  std::vector<scheme_total> totals;
  for (const klens::layer& each : layers) {
    const std::string* const scheme = plan.scheme_of(each.name);
    if (scheme == nullptr) continue;
    auto of = std::ranges::find(totals, *scheme, &scheme_total::name);
    if (of == totals.end()) of = totals.insert(of, {*scheme});
    of->layers += 1;
    of->bytes += bytes_of(each, *scheme);
    of->weights += each.rows() * each.columns();
  }
  std::ranges::sort(totals, {}, &scheme_total::bits);
  return totals;
}

// Schemes from the palest shade but one to the strongest.
std::string look_of(const std::vector<scheme_total>& totals, const std::string& scheme) {
  const auto at = static_cast<std::size_t>(std::ranges::find(totals, scheme, &scheme_total::name) - totals.begin());
  constexpr std::size_t first = 2;
  const std::size_t steps = std::max<std::size_t>(totals.size(), 2) - 1;
  return text("h%zu", first + at * (heat_scale::shades - first) / steps);
}

heat_map map_of(const klens::plan& plan, std::span<const klens::layer> layers, const klens::scores& scored,
                const std::vector<scheme_total>& totals) {
  heat_map map{"scheme of each layer", {}};
  for (const klens::layer& each : layers) {
    const std::string* const scheme = plan.scheme_of(each.name);
    if (scheme == nullptr) continue;
    const klens::layer_score* const score = scored.find(each.name, *scheme);
    std::string description = each.name + text(" (%zux%zu): ", each.rows(), each.columns()) + *scheme +
                              text(", %llu bytes", static_cast<unsigned long long>(bytes_of(each, *scheme)));
    if (score != nullptr && score->says_damage())
      description += text("; %s %.4g %s", scored.metrics.front().name.c_str(), score->metrics.front().mean,
                          scored.metrics.front().unit.c_str());
    map.cells.push_back({block_label(each.name), each.kind, look_of(totals, *scheme), description, map.cells.size()});
  }
  return map;
}

}  // namespace

std::string plan_page(const klens::plan& plan, std::span<const klens::layer> layers, const klens::scores& scored,
                      const std::vector<std::vector<std::string>>& measured, const std::string& title,
                      const std::string& headline) {
  const std::vector<scheme_total> totals = totals_of(plan, layers);
  report_page page{"klens plan: " + title};
  page.add_paragraph(headline);
  page.add_paragraph(how_to_read_plan);
  std::vector<share_bar> shares;
  for (const scheme_total& each : totals)
    shares.push_back({each.name, static_cast<double>(each.bytes) / static_cast<double>(plan.bytes),
                      each.name + text(": %zu layers, %llu bytes, %.3f bits a weight", each.layers,
                                       static_cast<unsigned long long>(each.bytes), each.bits()),
                      look_of(totals, each.name)});
  page.add_figures({{svg_of(map_of(plan, layers, scored, totals)), "Blocks by kind"},
                    {svg_of("share of the bytes by scheme", shares), "Share of the bytes"}});
  page.add_table({measured.front(), {measured.begin() + 1, measured.end()}, "Measured on the held-out tokens", false});
  return page.html();
}

}  // namespace programs
