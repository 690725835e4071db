#pragma once

#include <klens/rank/scores.hpp>
#include <string>
#include <vector>

#include "ranked_scheme.hpp"

namespace programs {

/// Damage along a sequence, of the candidates of one scheme.
struct position_report {
  std::vector<std::vector<std::string>> rows;  ///< the heading first: layer, a column a band, growth with each doubling
  std::vector<std::string> flags;              ///< a sentence for each candidate whose damage grows, the fastest first
};

/// Empty where the scores have no bands of position. `intervals`: cells show "low .. high" beside each mean, else "+-" half of it.
[[nodiscard]] position_report position_report_of(const klens::scores& scores, const ranked_scheme& ranked, bool intervals);

}  // namespace programs
