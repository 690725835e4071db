#pragma once

#include <klens/rank/scores.hpp>
#include <string>

#include "validate_study.hpp"

namespace programs {

/// What a report says of the run beside the study itself.
struct study_origin {
  std::string model;
  std::string calibration, held_out;  ///< files
  const klens::scores* calibrated = nullptr;
  const klens::scores* measured = nullptr;  ///< on the held-out tokens
};

/// For people: the verdict in words and one table; with `everything` all tables, and what follows from them in words.
void print_study(const study& all, const study_origin& origin, bool everything);

/// report.json: format "klens-validation", version 1.
[[nodiscard]] std::string study_json(const study& all, const study_origin& origin);

/// The same as a page with plots.
[[nodiscard]] std::string study_page(const study& all, const study_origin& origin);

}  // namespace programs
