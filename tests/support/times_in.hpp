#pragma once

#include <cstddef>
#include <string_view>

namespace support {

/// How many times a word stands in a text; places that overlap count each.
[[nodiscard]] inline std::size_t times_in(std::string_view text, std::string_view word) {
  std::size_t found = 0;
  for (std::size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) ++found;
  return found;
}

}  // namespace support
