#pragma once

#include <cstddef>
#include <klens/detail/instruction_set.hpp>
#include <klens/plan/detail/pattern_program.hpp>
#include <klens/plan/detail/pattern_reader.hpp>
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
    if (!alternatives() || !text_.ended() || highest_back_reference_ > made_.groups) return std::nullopt;
    add(op::found);
    return std::move(made_);
  }

 private:
  using op = pattern_program::op;
  using instruction = pattern_program::instruction;
  static constexpr std::size_t most_instructions = 20'000, most_repeats = pattern_reader::largest_number, deepest = 200;
  static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

  bool alternatives() {
    if (++depth_ > deepest) return false;
    std::vector<std::size_t> ends;
    for (;;) {
      const std::size_t start = made_.code.size();
      if (!sequence()) return false;
      if (!text_.taken('|')) break;
      insert(start, {op::split, start + 1, made_.code.size() + 2});
      ends.push_back(made_.code.size());
      add(op::jump);
    }
    for (const std::size_t each : ends) made_.code[each].x = made_.code.size();
    --depth_;
    return true;
  }

  bool sequence() {
    while (!text_.ended() && text_.next() != '|' && text_.next() != ')')
      if (!term()) return false;
    return true;
  }

  bool term() {
    const std::size_t start = made_.code.size();
    bool repeatable = true;
    if (text_.taken('^')) {
      add(op::begin);
      repeatable = false;
    } else if (text_.taken('$')) {
      add(op::end);
      repeatable = false;
    } else if (text_.taken("\\b") || text_.taken("\\B")) {
      add(op::boundary, 0, text_.last() == 'B' ? 1 : 0);
      repeatable = false;
    } else if (text_.taken("(?=") || text_.taken("(?!")) {
      const bool negative = text_.last() == '!';
      add(op::look, 0, negative ? 1 : 0);
      if (!alternatives() || !text_.taken(')')) return false;
      add(op::found);
      made_.code[start].x = made_.code.size();
    } else if (text_.taken("(?:")) {
      if (!alternatives() || !text_.taken(')')) return false;
    } else if (text_.taken('(')) {
      if (!text_.ended() && text_.next() == '?') return false;
      const std::size_t group = ++made_.groups;
      add(op::save, 2 * group);
      if (!alternatives() || !text_.taken(')')) return false;
      add(op::save, 2 * group + 1);
    } else if (!atom()) {
      return false;
    }
    return repetition(start, repeatable);
  }

  // * + ? {n} {n,} {n,m}, each with ? for as few as possible: copies of the instructions from `start` on.
  bool repetition(std::size_t start, bool repeatable) {
    std::size_t least = 1, most = 1;
    if (text_.taken('*'))
      least = 0, most = unlimited;
    else if (text_.taken('+'))
      most = unlimited;
    else if (text_.taken('?'))
      least = 0;
    else if (text_.taken('{')) {
      const auto low = text_.number();
      if (!low) return false;
      least = most = *low;
      if (text_.taken(',')) most = text_.number().value_or(unlimited);
      if (!text_.taken('}') || most < least || least > most_repeats || (most != unlimited && most > most_repeats)) return false;
    } else {
      return true;
    }
    if (!repeatable) return false;
    const bool lazy = text_.taken('?');
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
    if (text_.taken('.')) {
      set.set();
      set.reset('\n');
      set.reset('\r');
    } else if (text_.taken('[')) {
      if (!text_.character_class(set)) return false;
    } else if (text_.taken('\\')) {
      if (!text_.ended() && text_.next() >= '1' && text_.next() <= '9') {
        const std::size_t group = text_.number().value_or(unlimited);
        highest_back_reference_ = group > highest_back_reference_ ? group : highest_back_reference_;
        add(op::again, group);
        return true;
      }
      if (!text_.escape(set)) return false;
    } else {
      const char c = text_.take();
      if (c == '*' || c == '+' || c == '?' || c == '{' || c == '}' || c == ']') return false;
      set.set(static_cast<unsigned char>(c));
    }
    take_one_of(set);
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

  pattern_reader text_;
  std::size_t depth_ = 0, highest_back_reference_ = 0;
  pattern_program made_;
};

}  // namespace klens::detail
