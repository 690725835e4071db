#pragma once

#include <klens/error.hpp>
#include <klens/rank/scores.hpp>
#include <string>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// A scan that failed in the middle. `partial` holds what had been measured until then. Every weight is back in place, unless a
/// layer's own `store` failed while restoring: then the message names the layer, and layer::restore_failure says why.
struct scan_error : error {
  scores partial;
  scan_error(const std::string& message, scores until_then) : error{message}, partial{std::move(until_then)} {}
};

}  // namespace klens
