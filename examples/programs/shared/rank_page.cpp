#include "rank_page.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "position_report.hpp"
#include "ranked_scheme.hpp"
#include "report/damage_bars.hpp"
#include "report/heat_map.hpp"
#include "report/heat_scale.hpp"
#include "report/page.hpp"
#include "report/share_bars.hpp"
#include "terminal.hpp"

namespace programs {
namespace {

constexpr const char* how_to_read_ranking =
    "A row of the map is a block of the model, a column a kind of layer, a cell one weight matrix. Its colour is the damage "
    "that storing this matrix alone under the scheme does: from pale (harmless) to strong (fragile), in equal steps of the "
    "logarithm. Where states, keys and values or inputs of products were ranked, a cell is one of them. The bars have the same "
    "layers, worst first, with 95 % intervals; the data do not tell layers in one bracket "
    "apart. Point at a cell or touch it to see its numbers.";

// One scheme's ranking in pictures.
class scheme_pictures {
 public:
  scheme_pictures(const klens::scores& scores, const std::string& sort, const std::string& scheme)
      : scores_{scores},
        ranked_{ranked_scheme_of(scores, sort, scheme)},
        info_{scores.metrics[ranked_.metric]},
        scale_{floor_of(scores, ranked_), damages_of(ranked_)} {}

  void add_to(report_page& page) const {
    page.add_heading(ranked_.scheme);
    page.add_paragraph(words());
    std::vector<share_bar> kinds;
    for (const kind_share& each : ranked_.kinds)
      kinds.push_back(
          {each.kind, each.share, each.kind + text(": %zu layers, %.2f %% of ", each.layers, 100 * each.share) + info_.name});
    const std::string unit = info_.linear_damage(1) == 1 ? info_.name + ", " + info_.unit : info_.name + " as damage";
    page.add_figures({{svg_of(map()) + svg_of(scale_, unit), "Blocks by kind"},
                      {svg_of(bars()), "Worst first", true},
                      {svg_of("share by kind", kinds), "What each kind loses"}});
    add_positions_to(page);
  }

 private:
  void add_positions_to(report_page& page) const {
    const position_report report = position_report_of(scores_, ranked_, true);
    if (report.rows.empty()) return;
    page.add_table({report.rows.front(),
                    {report.rows.begin() + 1, report.rows.end()},
                    scores_.metrics.front().name + ", " + scores_.metrics.front().unit +
                        ", by position in the sequence, with 95 % intervals"});
    for (const std::string& each : report.flags) page.add_paragraph("Grows along the sequence: " + each + ".");
  }
  [[nodiscard]] static double floor_of(const klens::scores& scores, const ranked_scheme& ranked) {
    return scores.noise.empty() ? 0 : scores.metrics[ranked.metric].linear_damage(scores.noise[ranked.metric].mean);
  }
  [[nodiscard]] static std::vector<double> damages_of(const ranked_scheme& ranked) {
    std::vector<double> damages;
    for (const ranked_candidate& each : ranked.candidates) damages.push_back(each.damage);
    return damages;
  }

  [[nodiscard]] std::string look_of(const ranked_candidate& of) const {
    return std::isnan(of.damage) ? "unknown" : text("h%zu", scale_.shade(of.damage));
  }

  [[nodiscard]] std::string description_of(const ranked_candidate& of) const {
    const klens::layer_score& score = *of.score;
    const std::string shape =
        text(" (%zux%zu, %llu bytes as ", score.rows, score.columns, static_cast<unsigned long long>(score.bytes)) +
        score.scheme + ")";
    if (std::isnan(of.damage)) {
      const std::string why = score.result == klens::outcome::failed ? "not scored: " + score.reason
                              : score.result == klens::outcome::output_unchanged
                                  ? "its change reached no logit: unknown, not robust"
                                  : "not measured";
      return score.layer + shape + ": " + why;
    }
    const std::string interval = ranked_.interval_text(of);
    return of.place + " " + score.layer + shape + ": " + info_.name + text(" %.4g ", score.metrics[ranked_.metric].mean) +
           info_.unit + (interval.empty() ? "" : ", 95 % interval " + interval) +
           (score.source == klens::score_source::local ? "; predicted from its own block" : "") +
           (of.damage > scale_.floor() ? "" : "; no more than the noise floor") + (score.note.empty() ? "" : "; " + score.note);
  }

  // The same in every scheme: the place of the layer's first candidate.
  [[nodiscard]] std::size_t key_of(const std::string& layer) const {
    return static_cast<std::size_t>(std::ranges::find(scores_.candidates, layer, &klens::layer_score::layer) -
                                    scores_.candidates.begin());
  }

  [[nodiscard]] heat_map map() const {
    heat_map map{ranked_.scheme + ": damage of each layer", {}};
    std::map<const klens::layer_score*, const ranked_candidate*> shown;
    for (const ranked_candidate& each : ranked_.candidates) shown[each.score] = &each;
    for (const klens::layer_score& each : scores_.candidates)
      if (const auto found = shown.find(&each); found != shown.end())
        map.cells.push_back(
            {block_label(each.layer), each.kind, look_of(*found->second), description_of(*found->second), key_of(each.layer)});
    return map;
  }

  [[nodiscard]] damage_bars bars() const {
    damage_bars drawn{ranked_.scheme + ": layers, worst first", info_.unit, std::max(scale_.floor(), scale_.begin_of(1)), {}};
    for (const ranked_candidate& each : ranked_.candidates) {
      const klens::metric_score& score = each.score->metrics[ranked_.metric];
      double low = info_.linear_damage(score.low), high = info_.linear_damage(score.high);
      if (low > high) std::swap(low, high);
      drawn.bars.push_back({each.place, each.score->layer, look_of(each), description_of(each), each.damage, low, high,
                            each.group, key_of(each.score->layer)});
    }
    return drawn;
  }

  // The answer in words, for those who print the page or cannot see colours.
  [[nodiscard]] std::string words() const {
    constexpr std::size_t worst = 5;
    constexpr double harmless = 0.02;
    double sum = 0, of_worst = 0;
    std::string names, kinds;
    std::size_t named = 0;
    for (const ranked_candidate& each : ranked_.candidates)
      if (!std::isnan(each.damage)) {
        sum += each.damage;
        if (named == worst) continue;
        of_worst += each.damage;
        names += (named++ ? ", " : "") + each.score->layer;
      }
    if (!(sum > 0) || !std::isfinite(sum)) return "No layer loses anything.";
    double of_kinds = 0;
    for (auto each = ranked_.kinds.rbegin(); each != ranked_.kinds.rend() && of_kinds + each->share <= harmless; ++each) {
      of_kinds += each->share;
      kinds += (kinds.empty() ? "" : ", ") + each->kind;
    }
    return text("Worst: %s; together %.0f %% of the damage of all.", names.c_str(), 100 * of_worst / sum) +
           (kinds.empty() ? "" : " Harmless kinds: " + kinds + text("; together %.1f %%.", 100 * of_kinds));
  }

  const klens::scores& scores_;
  ranked_scheme ranked_;
  const klens::metric_info& info_;
  heat_scale scale_;
};

}  // namespace

std::string rank_page(const klens::scores& scores, const std::string& sort, const std::string& title,
                      const std::string& measured) {
  report_page page{"klens rank: " + title};
  for (std::size_t at = 0; at < measured.size();) {
    const std::size_t end = std::min(measured.find('\n', at), measured.size());
    page.add_paragraph(measured.substr(at, end - at));
    at = end + 1;
  }
  page.add_paragraph(how_to_read_ranking);
  for (const std::string& each : scores.schemes()) scheme_pictures{scores, sort, each}.add_to(page);
  for (const std::string& each : scores.remarks) page.add_paragraph("Note: " + each);
  for (const std::string& each : scores.skipped) page.add_paragraph("Left out: " + each);
  return page.html();
}

}  // namespace programs
