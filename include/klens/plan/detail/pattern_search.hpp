#pragma once

#include <cstddef>
#include <klens/plan/detail/pattern_program.hpp>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Searches a name for a pattern, backtracking on a stack of its own.
class pattern_search {
 public:
  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

  pattern_search(const pattern_program& program, std::string_view name)
      : program_{program}, name_{name}, captures_(2 * (program.groups + 1), none), marks_(program.loops, none) {}

  /// Whether the pattern is found; the first place where it begins, and of the ways to match there the first, count.
  [[nodiscard]] bool find() {
    for (std::size_t start = 0; start <= name_.size() && !exhausted_; ++start) {
      captures_.assign(captures_.size(), none);
      captures_[0] = start;
      if (run(0, start)) return true;
    }
    return false;
  }

  /// Whether the search was given up: it took more than 10 million steps.
  [[nodiscard]] bool gave_up() const noexcept { return exhausted_; }

  /// What group `index` captured, from 1; empty where it took no part.
  [[nodiscard]] std::string_view capture(std::size_t index) const {
    const std::size_t begin = captures_[2 * index], end = captures_[2 * index + 1];
    return begin == none || end == none ? std::string_view{} : name_.substr(begin, end - begin);
  }

 private:
  using op = pattern_program::op;
  static constexpr std::size_t most_steps = 10'000'000;

  // Where to go on, or, with a register, what to put back into it on the way there.
  struct choice {
    std::size_t at, position;
    std::size_t* restored = nullptr;
  };

  void set(std::size_t& stored, std::size_t value) {
    choices_.push_back({0, stored, &stored});
    stored = value;
  }

  // From instruction `at`, up to a `found`. Where it fails, all that it wrote is put back.
  bool run(std::size_t at, std::size_t position) {
    const std::size_t bottom = choices_.size();
    for (;;) {
      if (++steps_ > most_steps) {
        exhausted_ = true;
        return false;
      }
      const pattern_program::instruction& now = program_.code[at];
      bool matched = true;
      ++at;
      switch (now.code) {
        case op::take:
          matched = position < name_.size() && program_.sets[now.x].test(static_cast<unsigned char>(name_[position]));
          ++position;
          break;
        case op::split:
          choices_.push_back({now.y, position});
          at = now.x;
          break;
        case op::jump:
          at = now.x;
          break;
        case op::save:
          set(captures_[now.x], position);
          break;
        case op::mark:
          set(marks_[now.x], position);
          break;
        case op::progress:
          matched = marks_[now.x] != position;
          break;
        case op::begin:
          matched = position == 0;
          break;
        case op::end:
          matched = position == name_.size();
          break;
        case op::boundary:
          matched = (is_word(position) != (position > 0 && is_word(position - 1))) == (now.y == 0);
          break;
        case op::look: {
          const std::size_t before = choices_.size();
          const bool seen = run(at, position);
          if (exhausted_) return false;
          if (seen) forget_choices(before, now.y == 1);
          matched = seen == (now.y == 0);
          at = now.x;
          break;
        }
        case op::again: {
          const std::string_view text = capture(now.x);
          matched = name_.substr(position).starts_with(text);
          position += text.size();
          break;
        }
        case op::found:
          return true;
      }
      if (matched) continue;
      for (;;) {
        if (choices_.size() == bottom) return false;
        const choice last = choices_.back();
        choices_.pop_back();
        if (last.restored) {
          *last.restored = last.position;
        } else {
          at = last.at;
          position = last.position;
          break;
        }
      }
    }
  }

  // What a look has found is not tried another way; `undo`: what it captured is put back as well.
  void forget_choices(std::size_t bottom, bool undo) {
    std::vector<choice> registers;
    for (; choices_.size() > bottom; choices_.pop_back()) {
      const choice& last = choices_.back();
      if (!last.restored) continue;
      if (undo)
        *last.restored = last.position;
      else
        registers.push_back(last);
    }
    choices_.insert(choices_.end(), registers.rbegin(), registers.rend());
  }

  [[nodiscard]] bool is_word(std::size_t position) const noexcept {
    if (position >= name_.size()) return false;
    const char c = name_[position];
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  }

  const pattern_program& program_;
  std::string_view name_;
  std::vector<std::size_t> captures_, marks_;
  std::vector<choice> choices_;
  std::size_t steps_ = 0;
  bool exhausted_ = false;
};

}  // namespace klens::detail
