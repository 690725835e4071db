#pragma once

#include <cstddef>
#include <klens/error.hpp>
#include <optional>
#include <regex>
#include <string>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// An ECMAScript regular expression that is searched in layer names, and remembers whether it has found any.
class name_pattern {
 public:
  /// Throws argument_error for a text that is no regular expression.
  explicit name_pattern(std::string text) : text_{std::move(text)} {
    try {
      expression_ = std::regex{text_};
    } catch (const std::regex_error&) {
      throw argument_error{"plan: " + detail::name_text(text_) + " is not a regular expression"};
    }
  }

  /// Whether the pattern is found in the name. Throws argument_error for a name of more than 4096 characters.
  [[nodiscard]] bool matches(const std::string& name) { return captures(name).has_value(); }

  /// What the groups of the pattern captured, joined; nothing where the pattern is not found.
  [[nodiscard]] std::optional<std::string> captures(const std::string& name) {
    if (name.size() > longest) throw argument_error{"plan: a layer name of " + std::to_string(name.size()) + " characters"};
    std::smatch match;
    if (!std::regex_search(name, match, expression_)) return std::nullopt;
    matched_ = true;
    std::string joined;
    for (std::size_t c = 1; c < match.size(); ++c) joined += match[c].str() + '\n';
    return joined;
  }

  /// Throws argument_error unless a name has matched: a pattern that matches nothing is a mistake.
  void expect_matched() const {
    if (!matched_) throw argument_error{"plan: " + detail::name_text(text_) + " matches no layer; compare it with their names"};
  }

 private:
  static constexpr std::size_t longest = 4096;  // std::regex recurses for each character

  std::string text_;
  std::regex expression_;
  bool matched_ = false;
};

}  // namespace klens
