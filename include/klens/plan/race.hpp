#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/plan/apply.hpp>
#include <klens/plan/measure.hpp>
#include <klens/stats/interval.hpp>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

struct race_options {
  measure_versions_options measuring = {};  ///< batches are the looks: after each one, versions may leave
  double confidence = 0.99;                 ///< that no version which left is better than the winner on such text
  std::size_t least_sequences = 4;          ///< nobody leaves before
};

/// What a race saw.
struct race_result {
  std::size_t winner = 0;                    ///< of the versions that stayed, the one with the least KL
  std::vector<measured_version> measured{};  ///< the untouched model, then each version as far as it ran
  std::vector<bool> left{};                  ///< of each version: surely worse than another one
  std::size_t runs = 0;                      ///< forwards over one batch each, the untouched model's included
};

/// Measures versions of a model together, by KL to the untouched one, and lets those leave early that are surely worse than the
/// best at hand: the paired difference of their KLs by sequence lies above 0 at `confidence`, shared out among all versions and
/// looks (Bonferroni), so that many versions do not make one of them leave by chance.
/// Memory     as measure_versions.
/// Throws     as measure_versions; argument_error without versions and for a confidence outside 0 .. 1.
template <class Forward>
[[nodiscard]] race_result race_versions(Forward&& forward, std::span<layer> layers, std::span<const model_version> versions,
                                        const race_options& options = {}) {
  detail::expect_confidence(options.confidence);
  if (versions.empty()) throw argument_error{"race_versions: there is nothing to race"};
  const measure_versions_options& measuring = options.measuring;
  race_result race{.left = std::vector<bool>(versions.size(), false)};
  const auto sums = [&](std::size_t version) { return sequence_sums{race.measured[version + 1].kl_by_sequence}; };
  // two-sided intervals of which one side is used
  const double shared = 1 - 2 * (1 - options.confidence) / static_cast<double>(versions.size() * measuring.batches);
  race.runs = detail::measure_by_batch(
      forward, layers, versions, measuring, race.measured, [&](std::size_t v) { return !race.left[v]; },
      [&] {
        for (std::size_t v = 0; v < versions.size(); ++v)
          if (!race.left[v] && mean_of(sums(v)) < mean_of(sums(race.winner))) race.winner = v;
        if (race.measured[0].kl_by_sequence.size() < options.least_sequences) return;
        for (std::size_t v = 0; v < versions.size(); ++v) {
          if (race.left[v] || v == race.winner) continue;
          const estimate apart = difference_of(sums(v), sums(race.winner), shared);
          race.left[v] = apart.range && apart.range->low > 0;
        }
      });
  return race;
}

}  // namespace klens
