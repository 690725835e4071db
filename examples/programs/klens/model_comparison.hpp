#pragma once

#include <cstddef>
#include <klens/layer.hpp>
#include <map>
#include <string>
#include <vector>

#include "engine/model.hpp"
#include "measured_version.hpp"
#include "token_set.hpp"

namespace programs {

/// A version of a model: the scheme of each layer that is not as it was.
using named_schemes = std::map<std::string, std::string>;

/// Measures the untouched model (the first of the result) and each version, all on the same tokens, and leaves the weights as
/// they were. At most two batches of logits are in memory.
/// Throws     klens::numeric_error for weights that a scheme cannot store and for logits that are no numbers, naming the layer
///            or the position.
[[nodiscard]] std::vector<measured_version> measure_versions(const model& of, std::vector<klens::layer>& layers,
                                                             const std::vector<named_schemes>& versions,
                                                             const token_set& tokens, std::size_t sequences_per_batch,
                                                             std::size_t threads);

}  // namespace programs
