#pragma once

#include <array>
#include <charconv>
#include <clocale>
#include <cstdlib>
#include <klens/detail/instruction_set.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <version>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A number with up to `digits` significant digits, as printf's %g writes it, whatever the locale.
[[nodiscard]] inline std::string number_text(double value, int digits = 6) {
  std::array<char, 64> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::general, digits);
  return {text.data(), end.ptr};
}

/// The number that a text is, whatever the locale; nothing where it is none, or more than a number.
[[nodiscard]] inline std::optional<double> number_of(std::string_view text) {
  double value = 0;
#if defined(__cpp_lib_to_chars)
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
#else  // libc++ up to version 19
  if (text.find_first_not_of("0123456789.-e") != std::string_view::npos) return std::nullopt;
  std::string here{text};
  for (char& each : here)
    if (each == '.') each = *std::localeconv()->decimal_point;
  char* end = nullptr;
  value = std::strtod(here.c_str(), &end);
  if (here.empty() || end != here.c_str() + here.size()) return std::nullopt;
#endif
  return value;
}

}  // namespace klens::detail
