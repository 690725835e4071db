#include "validate_words.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "terminal.hpp"

namespace programs {
namespace {

// A number of tokens to two digits, as sure as it is: "8200", "1.3 M".
std::string count_text(double count) {
  if (!std::isfinite(count)) return "endlessly many";
  if (count >= 1e9) return text("%.2g G", count / 1e9);
  if (count >= 1e6) return text("%.2g M", count / 1e6);
  const double step = std::pow(10, std::max(0.0, std::floor(std::log10(std::max(count, 1.0))) - 1));
  return text("%.0f", std::ceil(count / step) * step);
}

// Perplexity on the calibration tokens: a metric that needs more of them than KL, for it has the noise of the next token.
constexpr std::string_view perplexity_itself = "delta_ce";

// Which of the two orders candidates more as perplexity does.
std::string verdict_on(const study& all, const klens::estimate& kl_minus_it, const std::string& other) {
  if (std::isnan(kl_minus_it.value)) return "too few candidates to tell";
  if (all.sequences < least_for_verdict)
    return text("no verdict from fewer than %zu sequences of each text", least_for_verdict);
  if (kl_minus_it.may_be_zero()) return "undecided, since the interval holds 0";
  return kl_minus_it.value > 0 ? "kl beats " + other : other + " beats kl";
}

}  // namespace

std::string number_text(double value) { return std::isnan(value) ? "-" : text("%.3f", value); }

std::string range_text(const klens::estimate& of) {
  return of.range && !std::isnan(of.range->low) ? text("%.3f .. %.3f", of.range->low, of.range->high) : "-";
}

std::string scheme_text(const std::string& scheme) { return scheme.empty() ? "all schemes together" : scheme; }

std::string group_text(const study_group& group) {
  if (group.significant_only)
    return scheme_text(group.scheme) +
           text(": the %zu candidates whose perplexity change is significant", group.members.size());
  return scheme_text(group.scheme) +
         text(": %zu candidates; the perplexity change of %zu lies within its own error: counted as ties", group.members.size(),
              group.ties);
}

std::string duel_text(const study& all, const study_group& group, const std::string& other) {
  const klens::estimate& apart = group.verdicts[all.index_of(other)].kl_minus;
  if (std::isnan(apart.value)) return "kl against " + other + ": too few candidates to tell.";
  return "kl against " + other + text(": tau %+.3f (", apart.value) + range_text(apart) + "); " +
         verdict_on(all, apart, other) + ".";
}

std::vector<std::string> verdict_texts(const study& all) {
  std::vector<std::string> sentences;
  const std::vector<std::string> schemes = all.schemes();
  const std::vector<const study_group*> groups = all.by_scheme();
  for (std::size_t s = 0; s < groups.size(); ++s) {
    const study_group& group = *groups[s];
    std::string sentence = schemes[s] + ": ";
    for (const char* other : {"mse", "sqnr", "delta_ce"}) {
      const std::size_t m = all.index_of(other);
      if (m == all.metrics.size()) continue;
      const klens::estimate& apart = group.verdicts[m].kl_minus;
      const std::string verdict = verdict_on(all, apart, other);
      if (other == perplexity_itself && !verdict.starts_with(other)) continue;  // else there is nothing to say of it
      sentence +=
          "kl against " + std::string{other} + text(" %+.3f (", apart.value) + range_text(apart) + "), " + verdict + "; ";
    }
    sentences.push_back(sentence + text("the perplexity change of %zu of %zu layers lies within its own error.", group.ties,
                                        group.members.size()));
  }
  return sentences;
}

std::vector<std::string> need_texts(const study& all, const token_need& need, const study_origin& origin) {
  const double given = static_cast<double>(origin.measured->positions);
  const auto length = given / static_cast<double>(origin.measured->sequences);
  std::vector<std::string> lines;
  const auto tokens = [&](const std::optional<std::size_t>& sequences) {
    return (sequences ? "about " : "more than ") + count_text(static_cast<double>(sequences.value_or(most_sequences)) * length);
  };
  lines.push_back(need.scheme + ": perplexity needs " + tokens(need.stable) +
                  " tokens at least for an order of tau 0.9 with itself on other text; with the " + text("%.0f", given) +
                  " given it has " + text("%.2f.", need.delta_ce.back()) + " About " + count_text(need.half_significant) +
                  " tell half of its changes from 0.");
  lines.push_back(text("kl has tau %.2f with one sequence (%.0f tokens) each; delta_ce takes ", need.kl.front(), length) +
                  (need.like_one_of_kl ? "about " : "more than ") +
                  count_text(static_cast<double>(need.like_one_of_kl.value_or(most_sequences))) +
                  " times as many tokens for that.");
  const std::vector<std::string> schemes = all.schemes();
  const auto at = static_cast<std::size_t>(std::ranges::find(schemes, need.scheme) - schemes.begin());
  const study_group& group = *all.by_scheme()[at];
  lines.push_back(
      text("%zu of %zu candidates move perplexity by something else than their kl, beyond its error: the error leans "
           "towards this text or away from it (docs/theory.md, 2.2). By how much has tau %.3f (",
           need.led_by_text, group.members.size(), group.lean.value) +
      range_text(group.lean) + ") with the same on the calibration tokens.");
  if (need.half_significant > given)
    lines.push_back(
        "Less than half of these changes can be told from 0: the agreement above says little of the metrics. Harsher "
        "schemes (int3-channel, int2-channel) show more.");
  return lines;
}

std::string headline(const study& all, const study_origin& origin) {
  const double nll = origin.measured->reference.nll();
  return text(
      "%zu candidates; metrics on %zu calibration sequences (%zu positions), perplexity on %zu held-out ones (%zu positions), "
      "%.4f for the untouched model",
      all.candidates.size(), origin.calibrated->sequences, origin.calibrated->positions, origin.measured->sequences,
      origin.measured->positions, std::exp(nll));
}

}  // namespace programs
