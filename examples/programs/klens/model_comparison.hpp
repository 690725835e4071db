#pragma once

#include <cstddef>
#include <klens/layer.hpp>
#include <klens/plan/measure.hpp>
#include <span>
#include <vector>

#include "engine/model.hpp"
#include "token_set.hpp"

namespace programs {

/// klens::measure_versions with klens' own engine, progress on the terminal.
[[nodiscard]] std::vector<klens::measured_version> measure_versions(const model& of, std::span<klens::layer> layers,
                                                                    std::span<const klens::model_version> versions,
                                                                    const token_set& tokens, std::size_t sequences_per_batch,
                                                                    std::size_t threads);

}  // namespace programs
