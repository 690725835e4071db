#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <klens/detail/instruction_set.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// What every failure of klens derives from. The message is one line: what is wrong, where, and what to do about it.
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Two things that must have the same shape do not. The message holds both shapes.
struct shape_error : error {
  using error::error;
};

/// A number that no result can rest on: a NaN or +inf logit, a NaN or infinite weight, a scale that its storage cannot hold.
struct numeric_error : error {
  using error::error;
};

/// A name, pattern or option that means nothing here.
struct argument_error : error {
  using error::error;
};

/// A layer whose own `store` failed while its weights were put back: they are NOT what they were. Load the model again.
struct restore_error : error {
  using error::error;
};

/// A file that cannot be read, trusted or written. The message starts with its path.
struct file_error : error {
  using error::error;
};

namespace detail {

/// A part of a message: text, or a whole number.
struct message_part {
  std::string_view text;
  bool is_number = false, is_negative = false;
  std::uintmax_t magnitude = 0;

  message_part(std::string_view of) : text{of} {}    // NOLINT: implicit
  message_part(const char* of) : text{of} {}         // NOLINT: implicit
  message_part(const std::string& of) : text{of} {}  // NOLINT: implicit
  template <std::integral Number>
  message_part(Number number)  // NOLINT: implicit
      : is_number{true},
        is_negative{number < 0},
        magnitude{is_negative ? 0 - static_cast<std::uintmax_t>(number) : static_cast<std::uintmax_t>(number)} {}
};

/// Parts of a message in one. (A chain of + is compiled where it stands, and costs a compiler as much as a loop.)
[[nodiscard, gnu::cold, gnu::noinline]] inline std::string joined(std::initializer_list<message_part> parts) {
  std::string all;
  for (const message_part& each : parts) {
    if (each.is_negative) all += '-';
    all += each.is_number ? std::string_view{std::to_string(each.magnitude)} : each.text;
  }
  return all;
}

/// Throws an error whose message is these parts joined.
template <class Error>
[[noreturn, gnu::cold, gnu::noinline]] void refuse(std::initializer_list<message_part> parts) {
  throw Error{joined(parts)};
}

/// "4x8": how a shape looks in a message.
[[nodiscard, gnu::cold, gnu::noinline]] inline std::string shape_text(std::ptrdiff_t rows, std::ptrdiff_t columns) {
  return joined({rows, "x", columns});
}

/// Text from outside, quoted and fit for a one-line message: control characters are masked, a long text is cut.
[[nodiscard, gnu::cold, gnu::noinline]] inline std::string name_text(std::string_view text) {
  constexpr std::size_t limit = 80;
  std::string shown = "'";
  for (const char each : text.substr(0, limit)) shown += static_cast<unsigned char>(each) < 0x20 || each == 0x7f ? '?' : each;
  return shown + (text.size() > limit ? "...'" : "'");
}

}  // namespace detail
}  // namespace klens
