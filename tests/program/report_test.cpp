// The pages that klens writes: scatter plots and tables in one HTML file.
#include <report/page.hpp>  // first: the header stands alone

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/browser.hpp"
#include "support/times_in.hpp"

namespace {

using support::times_in;

bool near(double a, double b) { return std::abs(a - b) < 1e-12; }

std::string label_at(const programs::axis_scale& scale, double place) {
  for (const programs::axis_tick& each : scale.ticks())
    if (near(each.at, place)) return each.label;
  return "none";
}

// Five points of which four can be drawn, two of them in the strips of values that have no logarithm.
programs::report_page example_page() {
  programs::scatter_plot plot{"kl & <friends>", {"score", true}, {"increase", true}, {}, "One plot."};
  plot.series.push_back({"in_proj", {{1e-5, 1e-4, "layer \"a\" <b>"}, {1e-3, 1e-2, "b", true}}});
  plot.series.push_back({"lm_head", {{1e-4, -1e-3, "c", false, true}, {0, 1e-3, "d"}, {std::nan(""), 1, "never"}}, true});
  programs::report_page page{"<script>alert(1)</script>"};
  page.add_heading("Heading & more");
  page.add_paragraph("1 < 2");
  page.add_table({{"metric", "tau"}, {{"kl", "0.5"}, {"<sqnr>", "0.4"}}, "A caption"});
  page.add_table({{"layer"}, {{"model.layers.0"}}, "Folded", true});
  page.add_plots(std::vector{plot, plot});
  return page;
}

}  // namespace

TEST_CASE("axis: values stand where they should, with their margins") {
  const programs::axis_scale linear{{"", false}, {0, 10}};  // shown from -0.5 to 10.5
  CHECK(near(linear.at(0), 0.5 / 11));
  CHECK(near(linear.at(5), 0.5));
  CHECK(near(linear.at(10), 10.5 / 11));
  CHECK(label_at(linear, 0.5 / 11) == "0");
  CHECK(label_at(linear, 8.5 / 11) == "8");

  const programs::axis_scale decades{{"", true}, {1e-6, 1e-2}};
  CHECK(near(decades.at(1e-4), 0.5));
  CHECK(label_at(decades, 0.5) == "1e-4");
  CHECK_FALSE(decades.has_strip());

  const programs::axis_scale falling{{"", false, true}, {0, 10}};
  CHECK(near(falling.at(10), 0.5 / 11));
  CHECK(near(falling.at(0), 10.5 / 11));
}

TEST_CASE("axis: what has no logarithm stands in a strip at the low end") {
  const programs::axis_scale rising{{"", true}, {-1, 0, 1, 100}};
  CHECK(rising.has_strip());
  CHECK(rising.at(-1) == rising.at(0));
  CHECK(rising.at(0) > 0);
  CHECK(rising.at(0) < rising.strip_end());
  CHECK(rising.at(1) > rising.strip_end());
  CHECK(label_at(rising, rising.at(0)) == "≤ 0");
  const programs::axis_scale falling{{"", true, true}, {-1, 0, 1, 100}};
  CHECK(near(falling.at(0), 1 - rising.at(0)));
  CHECK(falling.at(0) > falling.strip_end());
}

TEST_CASE("axis: any values get a scale with at least two ticks in sight") {
  const std::vector<std::vector<double>> lists{{}, {0}, {3}, {-5}, {1e-12, 1e12}, {0.5, 0.6}, {7, 7}, {1e9, 1e9 + 1}, {-1, -2}};
  for (const std::vector<double>& values : lists)
    for (const bool logarithmic : {false, true}) {
      const programs::axis_scale scale{{"", logarithmic}, values};
      const auto ticks = scale.ticks();
      CHECK(ticks.size() >= 2);
      CHECK(ticks.size() <= 14);
      for (const programs::axis_tick& each : ticks) CHECK((each.at >= 0 && each.at <= 1));
      for (const double each : values) CHECK((scale.at(each) > 0 && scale.at(each) < 1));
    }
}

TEST_CASE("page: texts stay texts, and nothing is loaded from elsewhere") {
  const std::string html = example_page().html();
  CHECK(html.find("<script>alert") == std::string::npos);
  CHECK(html.find("&lt;script&gt;alert(1)&lt;/script&gt;") != std::string::npos);
  CHECK(html.find("layer &quot;a&quot; &lt;b&gt;") != std::string::npos);
  CHECK(html.find("<td>&lt;sqnr&gt;</td>") != std::string::npos);
  for (const char* load : {"http:", "https:", "src=", "href=", "url(", "@import"}) CHECK(html.find(load) == std::string::npos);
}

TEST_CASE("page: every point that has both values is drawn, the others are counted") {
  const std::string html = example_page().html();
  CHECK(times_in(html, "class='point'") == 2 * 4);
  CHECK(times_in(html, "class='ring'") == 2);
  CHECK(times_in(html, "<polyline") == 2);
  CHECK(times_in(html, " hollow'") == 2);
  CHECK(html.find("never") == std::string::npos);
  CHECK(times_in(html, "1 without a finite value not shown") == 2);
  CHECK(times_in(html, "<li>") == 2);  // one legend for both plots
}

TEST_CASE("page: a browser shows the points, on a desk and on a phone") {
  if (!support::has_browser()) {
    MESSAGE("skipped: chromium is not installed");
    return;
  }
  for (const std::size_t width : {360u, 1400u}) {
    const support::page_in_browser seen = support::look_at(example_page().html(), width);
    REQUIRE(seen.loaded);
    CHECK(seen.points == 8);
    CHECK_FALSE(seen.scrolls);
    CHECK(seen.first_hover == "layer \"a\" &lt;b&gt;");  // as text, which the browser hands out escaped
  }
}
