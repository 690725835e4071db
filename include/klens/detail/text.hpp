#pragma once

#include <array>
#include <charconv>
#include <klens/detail/instruction_set.hpp>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A number with up to `digits` significant digits, as printf's %g writes it, whatever the locale.
[[nodiscard]] inline std::string number_text(double value, int digits = 6) {
  std::array<char, 64> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::general, digits);
  return {text.data(), end.ptr};
}

}  // namespace klens::detail
