#pragma once

#include <cstddef>
#include <klens/error.hpp>
#include <optional>
#include <regex>
#include <string>
#include <utility>

namespace klens::detail {

/// A regular expression that is searched in layer names, and whether it has found any.
struct name_pattern {
  std::string text;
  std::regex expression;
  bool must_match = true;
  bool matched = false;
  static constexpr std::size_t longest = 4096;  // std::regex recurses for each character

  explicit name_pattern(std::string of, bool must = true) : text{std::move(of)}, must_match{must} {
    try {
      expression = std::regex{text};
    } catch (const std::regex_error&) {
      throw argument_error{"plan: " + name_text(text) + " is not a regular expression"};
    }
  }

  /// What the name matches, captures joined; nothing where it does not match.
  [[nodiscard]] std::optional<std::string> captures(const std::string& name) {
    if (name.size() > longest) throw argument_error{"plan: a layer name of " + std::to_string(name.size()) + " characters"};
    std::smatch match;
    if (!std::regex_search(name, match, expression)) return std::nullopt;
    matched = true;
    std::string joined;
    for (std::size_t c = 1; c < match.size(); ++c) joined += match[c].str() + '\n';
    return joined;
  }

  void expect_matched() const {
    if (must_match && !matched)
      throw argument_error{"plan: " + name_text(text) + " matches no layer; compare it with their names"};
  }
};

}  // namespace klens::detail
