#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <functional>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/order.hpp>
#include <klens/error.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/scan/paired_comparison.hpp>
#include <klens/stats/student_t.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

/// How much of the error rate 1 - confidence a look may use. By n sequences (1 - confidence)(1 - 1/n) is used up, however they
/// came in batches, so that all looks together stay within it.
/// Source     K. K. G. Lan and D. L. DeMets, Biometrika 70 (1983) 659-663.
[[nodiscard]] inline double error_to_spend(const look& at) noexcept {
  const double before = 1 / static_cast<double>(std::max<std::size_t>(at.sequences_before, 1));
  return (1 - at.confidence) * (before - 1 / static_cast<double>(at.sequences));
}

/// Who is surely among the worst `seats` of all, and who is surely not? Those settled above keep their seats; each of the open
/// is compared with the first open one on the other side of the boundary.
[[nodiscard]] inline std::vector<standing> settle_seats(const look& at, std::size_t seats) {
  std::vector<standing> now(at.standings.begin(), at.standings.end());
  const auto settle = [&now](std::size_t candidate, bool above) { now[candidate] = above ? standing::above : standing::below; };
  const paired_comparison open{at};
  const auto taken = static_cast<std::size_t>(std::count(now.begin(), now.end(), standing::above));
  const std::size_t left = seats > taken ? seats - taken : 0;
  if (left == 0 || left >= open.size()) {
    for (std::size_t i = 0; i < open.size(); ++i) settle(open.candidate(i), left > 0);
  } else if (at.sequences > 1) {
    std::vector<paired_comparison::difference> apart;
    for (std::size_t i = 0; i < open.size(); ++i) apart.push_back(i < left ? open(i, left) : open(left - 1, i));
    const std::vector<double> chances = open.chances_of_reversal(apart, true);
    for (std::size_t i = 0; i < open.size(); ++i)
      if (chances[i] < error_to_spend(at)) settle(open.candidate(i), i < left);
  }
  return now;
}

[[nodiscard]] inline std::vector<standing> close_all(const look& at, standing as) {
  std::vector<standing> now(at.standings.begin(), at.standings.end());
  for (standing& each : now)
    if (each == standing::open) each = as;
  return now;
}

/// Which are among the first `seats` by that damage?
[[nodiscard]] inline std::vector<bool> seated(const std::vector<double>& damages, std::size_t seats) {
  const std::vector<std::size_t> order =
      order_of(damages.size(), [&](std::size_t a, std::size_t b) { return damages[a] > damages[b]; });
  std::vector<bool> in(damages.size(), false);
  for (std::size_t i = 0; i < std::min(seats, order.size()); ++i) in[order[i]] = true;
  return in;
}

/// How often is a draw's answer to "who has a seat?" not that of the estimates, by more than a tie? A mistake is an exchange of
/// seats, which wrongs two candidates.
[[nodiscard]] inline doubts doubts_of_seats(const damage_draws& of, std::size_t seats, double confidence) {
  const std::vector<bool> answer = seated(of.estimates, seats);
  std::vector<double> chances(of.estimates.size(), 0);
  for (const std::vector<double>& draw : of.draws) {
    const std::vector<bool> in = seated(draw, seats);
    double last_in = unbounded, first_out = -unbounded;
    for (std::size_t c = 0; c < draw.size(); ++c)
      in[c] ? last_in = std::min(last_in, draw[c]) : first_out = std::max(first_out, draw[c]);
    for (std::size_t c = 0; c < chances.size(); ++c) {
      const double beyond = in[c] ? draw[c] - first_out : last_in - draw[c];
      const bool tied = !of.ties.empty() && beyond <= of.ties[c];
      chances[c] += in[c] != answer[c] && !tied ? 1. / static_cast<double>(of.draws.size()) : 0;
    }
  }
  return {chances, 2 * (1 - confidence)};
}

/// "top:10": twelve digits, whatever the locale.
[[nodiscard]] inline std::string rule_text(const char* name, double value, const char* unit = "") {
  char digits[64];
  const auto written = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::general, 12);
  return name + (":" + std::string(digits, written.ptr)) + unit;
}

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

/// Every candidate sees every sequence.
struct exhaustive {
  [[nodiscard]] std::vector<standing> operator()(const look& at) const { return {at.standings.begin(), at.standings.end()}; }
  [[nodiscard]] std::string name() const { return "exhaustive"; }
};

/// Which are the `count` worst? A candidate leaves as soon as its side is settled: the chance that the whole calibration set
/// would put it on the other side is at most 1 - confidence, over all looks together.
/// Precision  on a small trained model (57 layers, 32 sequences, 99 %) no more than 0.1 % of the layers left on the wrong side.
///            The t tests assume roughly normal sequence means: of candidates nearly all tied, with noise that differs among
///            them by a factor of ten and more, 2 % did (docs/theory.md).
/// Source     paired t tests against the boundary, with variances as in stats/shrunken_variance.hpp and the error spent over looks
///            as in error_to_spend.
struct top {
  std::size_t count = 10;

  [[nodiscard]] std::vector<standing> operator()(const look& at) const { return detail::settle_seats(at, count); }
  [[nodiscard]] doubts doubts_of(const damage_draws& of, double confidence) const {
    return detail::doubts_of_seats(of, count, confidence);
  }
  [[nodiscard]] std::string name() const { return detail::rule_text("top", static_cast<double>(count)); }
};

/// Which are the worst `share` of the candidates, to the nearest number? As top.
struct split {
  double share = 0.5;

  [[nodiscard]] std::vector<standing> operator()(const look& at) const {
    return detail::settle_seats(at, seats(at.candidates.size()));
  }
  [[nodiscard]] doubts doubts_of(const damage_draws& of, double confidence) const {
    return detail::doubts_of_seats(of, seats(of.estimates.size()), confidence);
  }
  [[nodiscard]] std::size_t seats(std::size_t candidates) const {
    return static_cast<std::size_t>(std::llround(share * static_cast<double>(candidates)));
  }
  [[nodiscard]] std::string name() const { return detail::rule_text("split", share); }
};

/// Is the order as good as that of the whole calibration set, up to Kendall's tau? All candidates leave together, so that they
/// rest on the same sequences: when tau, expected from the chances that pairs are the wrong way round, is at least `tau`, by as
/// many standard deviations as the confidence asks for. The chances are those that hold given what was seen, so looking often
/// does not bend them.
struct order {
  double tau = 0.95;

  [[nodiscard]] std::vector<standing> operator()(const look& at) const {
    if (at.sequences < 2) return exhaustive{}(at);
    const detail::paired_comparison open{at};
    std::vector<detail::paired_comparison::difference> apart;
    for (std::size_t i = 0; i < open.size(); ++i)
      for (std::size_t j = i + 1; j < open.size(); ++j) apart.push_back(open(i, j));
    double discordant = 0, variance = 0;
    for (const double chance : open.chances_of_reversal(apart, false)) {
      discordant += chance;
      variance += chance * (1 - chance);
    }
    const double beyond = student_t_quantile(std::min(1 - at.confidence, 0.5), unbounded) * std::sqrt(variance);
    const double allowed = (1 - tau) / 2 * static_cast<double>(apart.size());
    return discordant + beyond <= allowed ? detail::close_all(at, standing::ordered) : exhaustive{}(at);
  }
  /// Of each candidate: the share of the others that a draw puts on its other side. tau is expected, whatever the confidence.
  [[nodiscard]] doubts doubts_of(const damage_draws& of, double) const {
    const std::size_t n = of.estimates.size();
    std::vector<double> chances(n, 0);
    const double each = 1 / (static_cast<double>(of.draws.size()) * std::max(static_cast<double>(n) - 1, 1.));
    for (const std::vector<double>& draw : of.draws)
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < i; ++j)
          if ((draw[i] < draw[j]) != (of.estimates[i] < of.estimates[j])) {
            chances[i] += each;
            chances[j] += each;
          }
    return {chances, (1 - tau) / 2};
  }
  [[nodiscard]] std::string name() const { return detail::rule_text("order", tau); }
};

/// As many sequences as can be had for so many forwards, or seconds: all candidates stop before a batch that would exceed it,
/// judged by the cost of the sequences until now. The first batch is always taken.
struct budget {
  double forwards = unbounded;
  double seconds = unbounded;

  [[nodiscard]] std::vector<standing> operator()(const look& at) const {
    const double grown = 2 - static_cast<double>(at.sequences_before) / static_cast<double>(at.sequences);
    const bool spent = at.forwards * grown > forwards || at.seconds * grown > seconds;
    return spent ? detail::close_all(at, standing::stopped) : exhaustive{}(at);
  }
  [[nodiscard]] std::string name() const {
    return forwards < unbounded ? detail::rule_text("budget", forwards) : detail::rule_text("budget", seconds, "s");
  }
};

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
