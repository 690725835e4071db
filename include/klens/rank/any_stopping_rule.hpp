#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <functional>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/stopping.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

/// Throws argument_error unless the rule says where every candidate stands, and leaves alone what is not open.
inline void expect_standings(const std::string& rule, const look& at, const std::vector<standing>& now) {
  const std::string_view of = "the stopping rule ";
  if (now.size() != at.standings.size())
    refuse<argument_error>({of, rule, " gave ", now.size(), " standings for ", at.standings.size(),
                            " candidates; it must give one for each, in the order of look::candidates"});
  for (std::size_t c = 0; c < now.size(); ++c) {
    if (now[c] < standing::open || now[c] > standing::stopped)
      refuse<argument_error>({of, rule, " gave candidate ", c, " a standing that does not exist"});
    if (at.standings[c] != standing::open && now[c] == standing::open)
      refuse<argument_error>(
          {of, rule, " opens candidate ", c, " again, which left the scan; what is not open must stay as it is"});
  }
}

/// Throws argument_error unless there is a chance for every candidate.
inline void expect_doubts(const std::string& rule, const damage_draws& draws, const doubts& answer) {
  if (answer.chances.size() != draws.estimates.size())
    refuse<argument_error>({"the stopping rule ", rule, ": doubts_of gave ", answer.chances.size(), " chances for ",
                            draws.estimates.size(), " candidates; it must give one for each"});
}

}  // namespace detail

/// A stopping rule that any_stopping_rule can hold: it also has a name.
template <class R>
concept named_stopping_rule = stopping_rule<R> && requires(const R& rule) {
  { rule.name() } -> std::convertible_to<std::string>;
};

/// Any stopping rule, klens' own or the user's, behind one type.
class any_stopping_rule {
 public:
  std::string name = exhaustive{}.name();

  template <class Rule>
    requires(!std::same_as<Rule, any_stopping_rule> && named_stopping_rule<Rule>)  // in this order, see any_metric
  any_stopping_rule(Rule rule) : name{rule.name()}, rule_{rule} {                  // NOLINT: a rule is any rule
    if constexpr (requires { &Rule::doubts_of; })
      static_assert(
          requires(const damage_draws& draws) { doubts{rule.doubts_of(draws, 0.99)}; },
          "klens: a stopping rule's doubts_of must be: klens::doubts doubts_of(const klens::damage_draws&, double confidence) "
          "const");
    if constexpr (requires(const damage_draws& draws) { doubts{rule.doubts_of(draws, 0.99)}; })
      doubts_ = [rule](const damage_draws& draws, double confidence) { return rule.doubts_of(draws, confidence); };
  }
  any_stopping_rule() : any_stopping_rule{exhaustive{}} {}

  /// Throws argument_error where the rule's answer does not fit the look.
  [[nodiscard]] std::vector<standing> operator()(const look& at) const {
    std::vector<standing> now = rule_(at);
    detail::expect_standings(name, at, now);
    return now;
  }

  /// Whether scan_method::refine can serve the rule: it has doubts_of, as top, split and order do.
  [[nodiscard]] bool has_doubts() const noexcept { return doubts_ != nullptr; }
  [[nodiscard]] doubts doubts_of(const damage_draws& draws, double confidence) const {
    doubts answer = doubts_(draws, confidence);
    detail::expect_doubts(name, draws, answer);
    return answer;
  }

  /// "exhaustive", "top:10", "split:0.5", "order:0.95", "budget:20" (forwards), "budget:90s" (seconds). Throws argument_error.
  [[nodiscard]] static any_stopping_rule parse(std::string_view text);

 private:
  std::function<std::vector<standing>(const look&)> rule_;
  std::function<doubts(const damage_draws&, double)> doubts_;
};

inline any_stopping_rule any_stopping_rule::parse(std::string_view text) {
  if (text == "exhaustive") return exhaustive{};
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::string_view rule = text.substr(0, colon);
  std::string_view number = text.substr(std::min(colon + 1, text.size()));
  const bool in_seconds = rule == "budget" && number.ends_with('s');
  if (in_seconds) number.remove_suffix(1);
  const std::optional<double> read = detail::number_of(number);
  const bool is_number = read && detail::is_finite(*read);
  const double value = is_number ? *read : 0;
  if (is_number && rule == "top" && value >= 1 && value <= 1e9 && value == std::floor(value))
    return top{static_cast<std::size_t>(value)};
  if (is_number && rule == "split" && 0 < value && value < 1) return split{value};
  if (is_number && rule == "order" && 0 < value && value < 1) return order{value};
  if (is_number && rule == "budget" && value > 0) return in_seconds ? budget{.seconds = value} : budget{.forwards = value};
  detail::refuse<argument_error>({"stopping rule ", detail::name_text(text),
                                  " is none of exhaustive, top:K (K >= 1), split:SHARE and order:TAU (between 0 and 1), "
                                  "budget:FORWARDS, budget:SECONDSs"});
}

}  // namespace klens
