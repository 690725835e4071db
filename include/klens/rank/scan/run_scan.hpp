#pragma once
// The seam between rank_layers and how it is done: two functions, for any forward. Where klens::compiled has them for a unit's
// flags, they come out of the library and the unit does not compile a scan.

#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/driver.hpp>
#include <klens/rank/scores.hpp>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// rank_layers by the method exact.
[[nodiscard]] KLENS_SCAN_INLINE scores run_scan(std::span<layer> layers, driver& forward, const std::vector<scheme>& schemes,
                                                const std::vector<any_metric>& metrics, const rank_options& options);

/// rank_layers by local scores; with the method refine, what they leave open is measured.
[[nodiscard]] KLENS_SCAN_INLINE scores rank_locally(std::span<layer> layers, driver& forward,
                                                    const std::vector<scheme>& schemes, const std::vector<any_metric>& metrics,
                                                    const rank_options& options);

}  // namespace klens::detail

#if !defined(KLENS_COMPILED_SCAN)
#include <klens/rank/local/rank_locally.hpp>
#include <klens/rank/scan/scan.hpp>
#endif
