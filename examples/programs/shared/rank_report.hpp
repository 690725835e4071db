#pragma once

#include <klens/rank/scores.hpp>
#include <string>

namespace programs {

/// Prints the ranking as people read it: a table for each scheme, worst first, and the share of each kind of layer.
void print_ranking(const klens::scores& scores, const std::string& sort);

}  // namespace programs
