#pragma once

#include <cstddef>

#include "ir_model.hpp"
#include "token_sampler.hpp"

namespace openvino_adapter {

/// An IR that goes on with tokens of its own. It keeps nothing between calls, and may take sequences of some lengths only: for every
/// token it reads a sequence of the full length anew, in as many as there are threads. An IR names no beginning-of-text token.
[[nodiscard]] programs::token_sampler sampler_of(ir_model& model, std::size_t threads);

}  // namespace openvino_adapter
