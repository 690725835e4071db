#pragma once

#include <cstddef>

#include "engine/model.hpp"
#include "token_sampler.hpp"

namespace programs {

/// A model of the reference engine that goes on with tokens of its own.
/// Memory  keys, values and recurrent states of all sequences, and a row of logits for each.
[[nodiscard]] token_sampler sampler_of(const model& of, std::size_t threads);

}  // namespace programs
