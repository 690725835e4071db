#pragma once
// What a page looks like in a real browser: headless Chromium, where it is installed (Debian package chromium).

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <string>

#include "support/run_program.hpp"

namespace support {

struct page_in_browser {
  bool loaded = false;      ///< false: there is no browser, or it did not show the page
  std::size_t points = 0;   ///< elements of class "point" that have a size and lie within their drawing
  bool scrolls = false;     ///< the page is wider than the window
  std::string first_hover;  ///< what is written below a plot when its first point is touched
};

[[nodiscard]] inline bool has_browser() { return run_program("command -v chromium").exit_code == 0; }

/// Loads a page in a window of so many pixels and measures what is there.
[[nodiscard]] inline page_in_browser look_at(const std::string& html, std::size_t width) {
  constexpr const char* measure = R"(<script>
    const inside = point => {
      const mark = point.querySelector('.mark').getBoundingClientRect(), all = point.closest('svg').getBoundingClientRect();
      return mark.width > 0 && mark.height > 0 && mark.left >= all.left && mark.right <= all.right && mark.top >= all.top &&
             mark.bottom <= all.bottom;
    };
    const points = [...document.querySelectorAll('.point')];
    points[0]?.querySelector('.touch').dispatchEvent(new Event('click', {bubbles: true}));
    document.title = 'measured|' + points.filter(inside).length + '|' +
                     (document.documentElement.scrollWidth > innerWidth ? 1 : 0) + '|' +
                     (document.querySelector('output')?.textContent ?? '') + '|end';
  </script></body>)";
  const temporary_folder folder;
  std::string page = html;
  page.replace(page.rfind("</body>"), 7, measure);
  std::ofstream{folder / "page.html"} << page;
  const program_result result = run_program("chromium --headless --no-sandbox --disable-gpu --user-data-dir='" +
                                            (folder / "profile").string() + "' --window-size=" + std::to_string(width) +
                                            ",800 --dump-dom 'file://" + (folder / "page.html").string() + "'");
  page_in_browser seen;
  std::size_t at = result.output.find("<title>measured|");
  if (at == std::string::npos) return seen;
  const auto field = [&] {
    at = result.output.find('|', at) + 1;
    return result.output.substr(at, result.output.find('|', at) - at);
  };
  seen.loaded = true;
  seen.points = std::strtoul(field().c_str(), nullptr, 10);
  seen.scrolls = field() == "1";
  seen.first_hover = field();
  return seen;
}

}  // namespace support
