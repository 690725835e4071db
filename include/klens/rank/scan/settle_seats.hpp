#pragma once
// What the rules of stopping.hpp share: who has one of the seats of the worst, and how sure is that?

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <klens/detail/order.hpp>
#include <klens/rank/look.hpp>
#include <klens/rank/scan/paired_comparison.hpp>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

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

}  // namespace klens::detail
