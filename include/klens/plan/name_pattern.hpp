#pragma once

#include <cstddef>
#include <klens/error.hpp>
#include <klens/plan/detail/pattern_compiler.hpp>
#include <klens/plan/detail/pattern_search.hpp>
#include <optional>
#include <string>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// An ECMAScript regular expression that is searched in layer names, and remembers whether it has found any. Bytes are matched:
/// without \u, [[:classes:]], named groups and look-behind.
class name_pattern {
 public:
  /// Throws argument_error for a text that is no regular expression.
  explicit name_pattern(std::string text) : text_{std::move(text)}, program_{detail::pattern_compiler{text_}.compile()} {
    if (!program_) throw argument_error{"plan: " + detail::name_text(text_) + " is not a regular expression"};
  }

  /// Whether the pattern is found in the name. Throws argument_error for a name of more than 4096 characters, and where the
  /// search takes more than ten million steps.
  [[nodiscard]] bool matches(const std::string& name) { return captures(name).has_value(); }

  /// What the groups of the pattern captured, joined; nothing where the pattern is not found.
  [[nodiscard]] std::optional<std::string> captures(const std::string& name) {
    if (name.size() > longest) throw argument_error{"plan: a layer name of " + std::to_string(name.size()) + " characters"};
    detail::pattern_search search{*program_, name};
    const bool found = search.find();
    if (search.gave_up())
      throw argument_error{"plan: " + detail::name_text(text_) + " takes too long to be found in " + detail::name_text(name) +
                           "; write it without repetitions of repetitions"};
    if (!found) return std::nullopt;
    matched_ = true;
    std::string joined;
    for (std::size_t c = 1; c <= program_->groups; ++c) joined += std::string{search.capture(c)} + '\n';
    return joined;
  }

  /// Throws argument_error unless a name has matched: a pattern that matches nothing is a mistake.
  void expect_matched() const {
    if (!matched_) throw argument_error{"plan: " + detail::name_text(text_) + " matches no layer; compare it with their names"};
  }

 private:
  static constexpr std::size_t longest = 4096;

  std::string text_;
  std::optional<detail::pattern_program> program_;
  bool matched_ = false;
};

}  // namespace klens
