#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace programs {

/// printf into a string.
template <class... Values>
[[nodiscard]] std::string text(const char* format, Values... values) {
  const int size = std::snprintf(nullptr, 0, format, values...);
  std::string result(static_cast<std::size_t>(size), '\0');
  std::snprintf(result.data(), result.size() + 1, format, values...);
  return result;
}
[[nodiscard]] inline std::string text(const char* plain) { return plain; }

/// Text fit for a terminal: names come from files, and control characters in them would be obeyed.
[[nodiscard]] inline std::string printable(std::string utf8) {
  std::ranges::replace_if(
      utf8, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return utf8;
}

/// How many columns a UTF-8 text takes (every code point one).
[[nodiscard]] inline std::size_t width_of(std::string_view utf8) {
  return static_cast<std::size_t>(
      std::ranges::count_if(utf8, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// A bar of `share` (0 to 1) of `width` columns, to an eighth of a column; anything above nothing shows.
[[nodiscard]] inline std::string bar(double share, std::size_t width) {
  static const bool utf8 = [] {
    for (const char* variable : {"LC_ALL", "LC_CTYPE", "LANG"})
      if (const char* value = std::getenv(variable); value && *value)
        return std::string_view{value}.find("UTF-8") != std::string_view::npos ||
               std::string_view{value}.find("utf8") != std::string_view::npos;
    return false;
  }();
  if (!(share > 0)) return {};
  const auto eighths =
      std::max<std::size_t>(1, static_cast<std::size_t>(std::lround(std::min(share, 1.0) * 8 * static_cast<double>(width))));
  if (!utf8) return std::string(std::max<std::size_t>(1, eighths / 8), '#');
  static constexpr std::string_view parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  std::string drawn;
  for (std::size_t i = 0; i < eighths / 8; ++i) drawn += "█";
  return drawn.append(parts[eighths % 8]);
}

/// Rows of cells printed in columns as wide as their widest cell; the first row is the heading.
class table {
 public:
  /// One letter a column: 'l' left, 'r' right.
  explicit table(std::string alignment) : alignment_{std::move(alignment)} {}
  void add(std::vector<std::string> cells) {
    for (std::string& each : cells) each = printable(std::move(each));
    rows_.push_back(std::move(cells));
  }
  void print(std::FILE* to) const {
    std::vector<std::size_t> widths(alignment_.size(), 0);
    for (const auto& cells : rows_)
      for (std::size_t c = 0; c < cells.size(); ++c) widths[c] = std::max(widths[c], width_of(cells[c]));
    for (const auto& cells : rows_) {
      std::string line;
      for (std::size_t c = 0; c < cells.size(); ++c) {
        const std::string gap(widths[c] - width_of(cells[c]), ' ');
        line += (c ? "  " : "") + (alignment_[c] == 'r' ? gap + cells[c] : cells[c] + gap);
      }
      line.erase(line.find_last_not_of(' ') + 1);
      std::fprintf(to, "%s\n", line.c_str());
    }
  }

 private:
  std::string alignment_;
  std::vector<std::vector<std::string>> rows_;
};

/// "1 h 05 min", "3 min 20 s", "12 s".
[[nodiscard]] inline std::string duration_text(double seconds) {
  const auto whole = static_cast<long>(std::lround(std::max(0.0, seconds)));
  if (whole >= 3600) return text("%ld h %02ld min", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return text("%ld min %02ld s", whole / 60, whole % 60);
  return text("%ld s", whole);
}

/// One line on stderr that is overwritten as work goes on; nothing at all where stderr is no terminal.
class progress_line {
 public:
  progress_line() = default;
  progress_line(const progress_line&) = delete;
  progress_line& operator=(const progress_line&) = delete;
  ~progress_line() { clear(); }

  void show(const std::string& line) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || now - shown_ < std::chrono::milliseconds(100)) return;
    shown_ = now;
    winsize size{};
    const std::size_t columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : 79u;
    std::fprintf(stderr, "\r\033[K%s", printable(line.substr(0, columns)).c_str());
    std::fflush(stderr);
    drawn_ = true;
  }
  void clear() {
    if (drawn_) std::fprintf(stderr, "\r\033[K");
    drawn_ = false;
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) == 1;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point shown_{};
};

}  // namespace programs
