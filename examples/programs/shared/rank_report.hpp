#pragma once

#include <klens/rank/scores.hpp>
#include <string>

namespace programs {

/// Whether a candidate's scores are damage: not where the forward does not use its weights, or was not run.
[[nodiscard]] bool says_something(const klens::layer_score& each);

/// Prints the ranking as people read it: a table for each scheme, worst first, and the share of each kind of layer.
void print_ranking(const klens::scores& scores, const std::string& sort);

}  // namespace programs
