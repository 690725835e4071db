#pragma once

#include <cstddef>
#include <klens/detail/instruction_set.hpp>
#include <klens/plan/detail/pattern_program.hpp>
#include <optional>
#include <string_view>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Reads a pattern from left to right: characters, numbers, and what says which bytes a place takes.
class pattern_reader {
 public:
  static constexpr std::size_t largest_number = 1000;

  explicit pattern_reader(std::string_view text) : text_{text} {}

  [[nodiscard]] bool ended() const noexcept { return at_ == text_.size(); }
  /// The character that comes next, and the one before it. The former needs !ended(), the latter that something was read.
  [[nodiscard]] char next() const noexcept { return text_[at_]; }
  [[nodiscard]] char last() const noexcept { return text_[at_ - 1]; }
  char take() noexcept { return text_[at_++]; }

  /// Reads this if it comes next.
  bool taken(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool taken(std::string_view prefix) {
    if (!text_.substr(at_).starts_with(prefix)) return false;
    at_ += prefix.size();
    return true;
  }

  /// A number; above largest_number any value above it. Nothing where no digit comes next.
  [[nodiscard]] std::optional<std::size_t> number() {
    const std::size_t start = at_;
    std::size_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
      if (value <= largest_number) value = 10 * value + static_cast<std::size_t>(text_[at_] - '0');
    if (at_ == start) return std::nullopt;
    return value;
  }

  /// What stands behind a backslash: a class such as \d, or one character. False where that means nothing.
  bool escape(byte_set& set) {
    if (at_ == text_.size()) return false;
    const char c = text_[at_++];
    const auto add_range = [&](char from, char to) {
      for (int each = from; each <= to; ++each) set.set(static_cast<std::size_t>(each));
    };
    switch (c) {
      case 'd':
      case 'D':
        add_range('0', '9');
        break;
      case 'w':
      case 'W':
        set |= word_characters();
        break;
      case 's':
      case 'S':
        add_range('\t', '\r');
        set.set(' ');
        break;
      case 't':
        set.set('\t');
        break;
      case 'n':
        set.set('\n');
        break;
      case 'r':
        set.set('\r');
        break;
      case 'f':
        set.set('\f');
        break;
      case 'v':
        set.set('\v');
        break;
      case '0':
        set.set(0);
        break;
      case 'x': {
        std::size_t value = 0;
        for (int digit = 0; digit < 2; ++digit) {
          const std::size_t found = at_ < text_.size() ? std::string_view{"0123456789abcdefABCDEF"}.find(text_[at_++]) : 99;
          if (found > 21) return false;
          value = 16 * value + (found > 15 ? found - 6 : found);
        }
        set.set(value);
        break;
      }
      default:
        if (word_characters().test(static_cast<unsigned char>(c))) return false;  // \q means nothing
        set.set(static_cast<unsigned char>(c));
    }
    if (c == 'D' || c == 'W' || c == 'S') set.flip();
    return true;
  }

  /// What stands behind [, up to its ]. False where that is no class.
  bool character_class(byte_set& set) {
    const bool negated = taken('^');
    while (!taken(']')) {
      byte_set first;
      if (!class_atom(first)) return false;
      if (first.count() == 1 && at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        byte_set last;
        if (!class_atom(last) || last.count() != 1) return false;
        std::size_t from = 0, to = 0;
        while (!first.test(from)) ++from;
        while (!last.test(to)) ++to;
        if (from > to) return false;
        for (; from <= to; ++from) set.set(from);
      } else {
        set |= first;
      }
    }
    if (negated) set.flip();
    return true;
  }

 private:
  bool class_atom(byte_set& set) {
    if (at_ == text_.size() || text_.substr(at_).starts_with("[:") || text_.substr(at_).starts_with("[=") ||
        text_.substr(at_).starts_with("[."))
      return false;
    if (!taken('\\')) {
      set.set(static_cast<unsigned char>(text_[at_++]));
      return true;
    }
    if (taken('b')) {
      set.set('\b');
      return true;
    }
    return escape(set);
  }

  [[nodiscard]] static byte_set word_characters() {
    byte_set set;
    for (const char c : std::string_view{"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"})
      set.set(static_cast<unsigned char>(c));
    return set;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace klens::detail
