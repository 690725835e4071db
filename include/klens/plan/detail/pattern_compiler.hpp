#pragma once

#include <cstddef>
#include <klens/detail/instruction_set.hpp>
#include <klens/plan/detail/pattern_program.hpp>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Turns a pattern into instructions by recursive descent; nothing for a text that is no pattern.
class pattern_compiler {
 public:
  explicit pattern_compiler(std::string_view text) : text_{text} {}

  [[nodiscard]] std::optional<pattern_program> compile() {
    if (!alternatives() || at_ != text_.size() || highest_back_reference_ > made_.groups) return std::nullopt;
    add(op::found);
    return std::move(made_);
  }

 private:
  using op = pattern_program::op;
  using instruction = pattern_program::instruction;
  static constexpr std::size_t most_instructions = 20'000, most_repeats = 1000, deepest = 200;
  static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

  bool alternatives() {
    if (++depth_ > deepest) return false;
    std::vector<std::size_t> ends;
    for (;;) {
      const std::size_t start = made_.code.size();
      if (!sequence()) return false;
      if (!taken('|')) break;
      insert(start, {op::split, start + 1, made_.code.size() + 2});
      ends.push_back(made_.code.size());
      add(op::jump);
    }
    for (const std::size_t each : ends) made_.code[each].x = made_.code.size();
    --depth_;
    return true;
  }

  bool sequence() {
    while (at_ < text_.size() && text_[at_] != '|' && text_[at_] != ')')
      if (!term()) return false;
    return true;
  }

  bool term() {
    const std::size_t start = made_.code.size();
    bool repeatable = true;
    if (taken('^')) {
      add(op::begin);
      repeatable = false;
    } else if (taken('$')) {
      add(op::end);
      repeatable = false;
    } else if (taken("\\b") || taken("\\B")) {
      add(op::boundary, 0, text_[at_ - 1] == 'B' ? 1 : 0);
      repeatable = false;
    } else if (taken("(?=") || taken("(?!")) {
      const bool negative = text_[at_ - 1] == '!';
      add(op::look, 0, negative ? 1 : 0);
      if (!alternatives() || !taken(')')) return false;
      add(op::found);
      made_.code[start].x = made_.code.size();
    } else if (taken("(?:")) {
      if (!alternatives() || !taken(')')) return false;
    } else if (taken('(')) {
      if (at_ < text_.size() && text_[at_] == '?') return false;
      const std::size_t group = ++made_.groups;
      add(op::save, 2 * group);
      if (!alternatives() || !taken(')')) return false;
      add(op::save, 2 * group + 1);
    } else if (!atom()) {
      return false;
    }
    return repetition(start, repeatable);
  }

  // * + ? {n} {n,} {n,m}, each with ? for as few as possible: copies of the instructions from `start` on.
  bool repetition(std::size_t start, bool repeatable) {
    std::size_t least = 1, most = 1;
    if (taken('*'))
      least = 0, most = unlimited;
    else if (taken('+'))
      most = unlimited;
    else if (taken('?'))
      least = 0;
    else if (taken('{')) {
      const auto low = number();
      if (!low) return false;
      least = most = *low;
      if (taken(',')) most = number().value_or(unlimited);
      if (!taken('}') || most < least || least > most_repeats || (most != unlimited && most > most_repeats)) return false;
    } else {
      return true;
    }
    if (!repeatable) return false;
    const bool lazy = taken('?');
    const std::vector<instruction> body(made_.code.begin() + static_cast<std::ptrdiff_t>(start), made_.code.end());
    made_.code.resize(start);
    for (std::size_t i = 0; i < least; ++i)
      if (!append(body, start)) return false;
    const auto branch = [&](std::size_t in, std::size_t out) {
      return lazy ? instruction{op::split, out, in} : instruction{op::split, in, out};
    };
    if (most == unlimited) {
      const std::size_t loop = made_.loops++, split = made_.code.size();
      add(op::split);
      add(op::mark, loop);
      if (!append(body, start)) return false;
      add(op::progress, loop);
      add(op::jump, split);
      made_.code[split] = branch(split + 1, made_.code.size());
      return true;
    }
    std::vector<std::size_t> splits;
    for (std::size_t i = least; i < most; ++i) {
      splits.push_back(made_.code.size());
      add(op::split);
      if (!append(body, start)) return false;
    }
    for (const std::size_t each : splits) made_.code[each] = branch(each + 1, made_.code.size());
    return true;
  }

  bool atom() {
    byte_set set;
    if (taken('.')) {
      set.set();
      set.reset('\n');
      set.reset('\r');
    } else if (taken('[')) {
      if (!character_class(set)) return false;
    } else if (taken('\\')) {
      if (at_ < text_.size() && text_[at_] >= '1' && text_[at_] <= '9') {
        const std::size_t group = number().value_or(unlimited);
        highest_back_reference_ = group > highest_back_reference_ ? group : highest_back_reference_;
        add(op::again, group);
        return true;
      }
      if (!escape(set)) return false;
    } else {
      const char c = text_[at_++];
      if (c == '*' || c == '+' || c == '?' || c == '{' || c == '}' || c == ']') return false;
      set.set(static_cast<unsigned char>(c));
    }
    take_one_of(set);
    return true;
  }

  // Behind a backslash: a class such as \d, or one character.
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

  [[nodiscard]] std::optional<std::size_t> number() {
    const std::size_t start = at_;
    std::size_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
      if (value <= most_repeats) value = 10 * value + static_cast<std::size_t>(text_[at_] - '0');
    if (at_ == start) return std::nullopt;
    return value;
  }

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

  void add(op code, std::size_t x = 0, std::size_t y = 0) { made_.code.push_back({code, x, y}); }
  void take_one_of(const byte_set& set) {
    made_.sets.push_back(set);
    add(op::take, made_.sets.size() - 1);
  }

  [[nodiscard]] static bool has_target(op code) noexcept { return code == op::split || code == op::jump || code == op::look; }
  static void shift(instruction& each, std::size_t from, std::size_t by) noexcept {
    if (!has_target(each.code)) return;
    if (each.x >= from) each.x += by;
    if (each.code == op::split && each.y >= from) each.y += by;
  }

  // In front of what stands from `where` on.
  void insert(std::size_t where, instruction added) {
    for (std::size_t i = where; i < made_.code.size(); ++i) shift(made_.code[i], where, 1);
    made_.code.insert(made_.code.begin() + static_cast<std::ptrdiff_t>(where), added);
  }

  // A copy of instructions that were made for `start`; its loops get marks of their own.
  bool append(const std::vector<instruction>& body, std::size_t start) {
    const std::size_t by = made_.code.size() - start, first_loop = made_.loops;
    if (made_.code.size() + body.size() > most_instructions) return false;
    std::size_t least = unlimited, most = 0;
    for (const instruction& each : body)
      if (each.code == op::mark || each.code == op::progress) {
        least = each.x < least ? each.x : least;
        most = each.x > most ? each.x : most;
      }
    for (instruction each : body) {
      shift(each, start, by);
      if (each.code == op::mark || each.code == op::progress) each.x = first_loop + (each.x - least);
      made_.code.push_back(each);
    }
    if (least != unlimited) made_.loops = first_loop + (most - least) + 1;
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0, depth_ = 0, highest_back_reference_ = 0;
  pattern_program made_;
};

}  // namespace klens::detail
