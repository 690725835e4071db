// klens rank --html: the page shows every layer where its block and kind say, in the shade of its damage.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <klens/io/scores_json.hpp>
#include <report/damage_bars.hpp>
#include <report/heat_map.hpp>
#include <report/heat_scale.hpp>
#include <report/share_bars.hpp>
#include <string>
#include <vector>

#include "program/klens.hpp"
#include "support/browser.hpp"
#include "support/times_in.hpp"

namespace {

using support::times_in;

}  // namespace

TEST_CASE("heat scale: nine equal steps of the logarithm from the least damage to the largest") {
  const std::vector<double> damages{1e-9, 1e-4, 3e-3, 1e-1, std::nan(""), INFINITY};
  const programs::heat_scale scale{1e-8, damages};  // 1e-9 is below the floor; three orders remain, a third of one each shade
  CHECK(scale.shade(0) == 0);
  CHECK(scale.shade(1e-8) == 0);
  CHECK(scale.shade(1.1e-8) == 1);
  CHECK(scale.shade(1.01e-4) == 1);
  CHECK(scale.shade(2.1e-4) == 1);
  CHECK(scale.shade(2.2e-4) == 2);
  CHECK(scale.shade(0.9e-1) == 9);
  CHECK(scale.shade(1e-1) == 9);
  CHECK(scale.shade(INFINITY) == 9);
  CHECK(std::abs(scale.begin_of(4) - 1e-3) < 1e-15);
  CHECK(std::abs(scale.begin_of(10) - 1e-1) < 1e-13);
}

TEST_CASE("heat scale: no damage, one damage, and more than five orders of magnitude") {
  CHECK(programs::heat_scale{0, {}}.shade(0) == 0);
  const std::vector<double> one{0.5};
  CHECK(programs::heat_scale{0, one}.shade(0.5) >= 1);
  const std::vector<double> wide{1e-12, 1};
  const programs::heat_scale scale{0, wide};
  CHECK(std::abs(scale.begin_of(1) - 1e-5) < 1e-18);
  CHECK(scale.shade(1e-12) == 1);
}

TEST_CASE("block labels: what a layer's name says of its place") {
  CHECK(programs::block_label("model.layers.17.mlp.experts.3.up_proj.weight") == "17");
  CHECK(programs::block_label("blk.0.ffn_up.weight") == "0");
  CHECK(programs::block_label("levels.2.blocks.3.mixer.in_proj.weight") == "2.3");
  CHECK(programs::block_label("lm_head.weight") == "");
  CHECK(programs::block_label("") == "");
}

TEST_CASE("heat map: layers of one block and kind share a place side by side") {
  const programs::heat_map map{
      "m", {{"0", "up", "h1", "a", 0}, {"1", "up", "h2", "b", 1}, {"1", "up", "h3", "c", 2}, {"", "head", "h9", "<d>", 3}}};
  const std::string svg = programs::svg_of(map);
  CHECK(times_in(svg, "class='point'") == 4);
  CHECK(times_in(svg, "width='30.00'") == 2);  // the touched area of a whole cell: block 0, and the head
  CHECK(times_in(svg, "width='15.00'") == 2);  // two halves
  CHECK(times_in(svg, ">up</text>") == 1);
  CHECK(svg.find("&lt;d&gt;") != std::string::npos);
}

TEST_CASE("damage bars: a bracket joins neighbours that share a place, and what is unknown has no interval") {
  const double none = std::nan("");
  const programs::damage_bars bars{"b",
                                   "nats",
                                   1e-6,
                                   {{"1", "a", "h9", "", 1e-1, 0.9e-1, 1.1e-1, 0, 0},
                                    {"2=", "b", "h5", "", 1e-2, 0.8e-2, 1.2e-2, 1, 1},
                                    {"2=", "c", "h5", "", 1e-2, none, none, 1, 2},
                                    {"4=", "d", "h4", "", 1e-3, 1e-3, 1e-3, 2, 3},
                                    {"4=", "e", "h4", "", 1e-3, 1e-3, 1e-3, 2, 4},
                                    {"-", "f", "unknown", "", none, none, none, 0, 5}}};
  const std::string svg = programs::svg_of(bars);
  CHECK(times_in(svg, "class='bracket'") == 2);
  CHECK(times_in(svg, "class='whisker'") == 4);
  CHECK(times_in(svg, "class='point'") == 6);
}

TEST_CASE("klens rank --html: the page of the embedded model") {
  const support::temporary_folder folder;
  const auto page_file = folder / "page.html", scores_file = folder / "scores.json";
  const auto result = support::run_klens("rank " + support::embedded_model + " --tokens " + support::calibration +
                                         " --sequences 4 --length 32 --schemes int4-channel,int8-channel --output " +
                                         support::quoted(scores_file) + " --html " + support::quoted(page_file));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(result.output.find("page written to " + page_file.string()) != std::string::npos);
  const std::string page = support::content_of(page_file);
  const klens::scores scores = klens::read_scores(scores_file).result;
  constexpr std::size_t layers = 57, kinds = 12, schemes = 2;
  CHECK(times_in(page, "class='point'") == schemes * (2 * layers + kinds));
  CHECK(page.find("Worst: " + scores.ranked("kl").front()->layer) != std::string::npos);
  for (const char* load : {"http:", "https:", "src=", "href=", "url(", "@import"}) CHECK(page.find(load) == std::string::npos);

  if (!support::has_browser()) {
    MESSAGE("skipped: chromium is not installed");
    return;
  }
  const auto first_cell = std::ranges::find_if(
      scores.candidates, [](const klens::layer_score& each) { return !programs::block_label(each.layer).empty(); });
  for (const std::size_t width : {360u, 1400u}) {
    const support::page_in_browser seen = support::look_at(page, width);
    REQUIRE(seen.loaded);
    CHECK(seen.points == schemes * (2 * layers + kinds));
    CHECK_FALSE(seen.scrolls);
    CHECK(seen.first_hover.find(first_cell->layer) != std::string::npos);
  }
}

TEST_CASE("klens rank --html: a page that cannot be written is refused before the work") {
  support::check_refused(support::run_klens("rank " + support::embedded_model + " --tokens " + support::calibration +
                                            " --html /nowhere/page.html"),
                         "/nowhere/page.html");
}
