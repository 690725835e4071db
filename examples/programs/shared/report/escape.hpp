#pragma once

#include <string>
#include <string_view>

namespace programs {

/// Text as HTML and SVG show it, between tags and within quotes.
[[nodiscard]] inline std::string escaped(std::string_view plain) {
  std::string safe;
  for (const char each : plain) switch (each) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += each;
    }
  return safe;
}

}  // namespace programs
