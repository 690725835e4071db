#pragma once

#include <cstddef>
#include <klens/rank/scores.hpp>
#include <string>
#include <vector>

namespace programs {

/// A candidate where a report shows it.
struct ranked_candidate {
  const klens::layer_score* score = nullptr;
  double damage = 0;      ///< of the metric that ranks, at least 0 (below it is noise); NaN where the scores say nothing of it
  std::string place;      ///< "4", "4=" for all who share the fourth; "-" where the scores say nothing
  std::size_t group = 0;  ///< ties have the same; counted from 0
};

/// What all layers of a kind lose together.
struct kind_share {
  std::string kind;
  std::size_t layers = 0;
  double share = 0;  ///< of the damage of all kinds
};

/// The candidates of one scheme as reports show them.
struct ranked_scheme {
  std::string scheme;
  std::size_t metric = 0;                    ///< the one that ranks, as an index
  std::vector<ranked_candidate> candidates;  ///< worst first; those that say nothing of damage come last
  double most = 0;                           ///< the largest damage
  double stability = 0;           ///< Kendall's tau to expect against a ranking by as much fresh text; NaN: not known
  std::vector<kind_share> kinds;  ///< the largest share first; none where no damage is above 0

  /// The interval of a candidate's mean, as "0.0188 .. 0.0204"; empty where there is none.
  [[nodiscard]] std::string interval_text(const ranked_candidate& of) const;
};

/// Ranks one scheme's candidates by a metric. Throws klens::argument_error where it was not measured.
[[nodiscard]] ranked_scheme ranked_scheme_of(const klens::scores& all, const std::string& metric, const std::string& scheme);

}  // namespace programs
