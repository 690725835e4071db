#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/plan/unit.hpp>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// What a search that measures came to.
struct measured_allocation {
  allocation found;
  double measured = 0;           ///< what the callable said of it
  std::size_t measurements = 0;  ///< how often it was asked
};

/// Quantizes as far as quality stays within a tolerance of the untouched model. Each unit starts at its largest choice;
/// candidates are taken in ascending predicted damage, put in place where they are smaller than what is there, measured, and
/// taken back where perplexity rises above gamma times the baseline: that of the untouched model throughout, so that the
/// tolerance does not drift along.
/// measure    measure(chosen) gives the perplexity with one choice for each unit. A NaN counts as too much.
/// Throws     argument_error for a gamma or a baseline that no perplexity can be; argument_error, numeric_error for units
///            that make no sense; what measure throws.
/// Source     arXiv:2604.13440 (gamma = 1.10).
struct tolerance {
  static constexpr std::string_view name = "tolerance";
  double gamma = 1.10;

  template <std::invocable<std::span<const std::size_t>> Measure>
  [[nodiscard]] measured_allocation operator()(std::span<const plan_unit> units, Measure&& measure, double baseline) const {
    if (!(gamma >= 1) || !detail::is_finite(gamma))
      throw argument_error{"tolerance: gamma is " + detail::number_text(gamma) + "; it must be 1 or more"};
    if (!(baseline >= 1) || !detail::is_finite(baseline))
      throw argument_error{"tolerance: the baseline is " + detail::number_text(baseline) + "; a perplexity is 1 or more"};
    detail::expect_units(units);
    struct candidate {
      std::size_t unit, choice;
    };
    std::vector<candidate> candidates;
    std::vector<std::size_t> chosen;
    for (std::size_t u = 0; u < units.size(); ++u) {
      chosen.push_back(detail::least(
          units[u], [](const plan_choice& each) { return ~each.bytes; }, detail::damage_of));
      for (std::size_t c = 0; c < units[u].choices.size(); ++c)
        if (c != chosen[u] && detail::is_finite(units[u].choices[c].damage)) candidates.push_back({u, c});
    }
    const auto damage_at = [&](const candidate& each) { return units[each.unit].choices[each.choice].damage; };
    std::stable_sort(candidates.begin(), candidates.end(),
                     [&](const candidate& a, const candidate& b) { return damage_at(a) < damage_at(b); });
    double measured = baseline;
    std::size_t measurements = 0;
    for (const auto [unit, choice] : candidates) {
      if (units[unit].choices[choice].bytes >= units[unit].choices[chosen[unit]].bytes) continue;
      const std::size_t before = std::exchange(chosen[unit], choice);
      const double perplexity = measure(std::span<const std::size_t>{chosen});
      ++measurements;
      if (perplexity <= gamma * baseline)
        measured = perplexity;
      else
        chosen[unit] = before;
    }
    return {allocation_of(units, std::move(chosen)), measured, measurements};
  }
};

}  // namespace klens
