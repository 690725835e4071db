#pragma once

#include <klens/rank/scores.hpp>
#include <string>

namespace programs {

/// The ranking as a page (report/page.hpp): for every scheme a map of the model's blocks by kind of layer, coloured by damage on a
/// logarithmic scale, the layers worst first with intervals and ties, and what each kind loses.
///   title      of the model
///   measured   what it was measured on, in lines
[[nodiscard]] std::string rank_page(const klens::scores& scores, const std::string& sort, const std::string& title,
                                    const std::string& measured);

}  // namespace programs
