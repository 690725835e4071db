#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "validate_study.hpp"

namespace programs {

/// How many tokens an order of one scheme's layers takes, from the sums that both scans of the study kept by sequence.
[[nodiscard]] token_need need_of(const study& all, const std::string& scheme, const study_options& options);

/// Tau against perplexity by the first 1, 2, 4, ... calibration sequences alone. The first `scanned` metrics of the study come
/// from the scan.
[[nodiscard]] std::vector<token_ablation> ablation_of_tokens(const study& all, std::size_t scanned,
                                                             const study_options& options);

}  // namespace programs
