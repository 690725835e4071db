#pragma once

#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/rank/scores.hpp>
#include <span>
#include <string>
#include <utility>

namespace klens {

/// One of those that share a scan: a forward callable and the layers of its own model, in the same order as every other
/// worker's.
template <class Forward>
struct worker {
  std::span<layer> layers;
  Forward* forward = nullptr;
};

/// A scan that failed in the middle. Every weight is back in place; `partial` holds what had been measured until then.
struct scan_error : error {
  scores partial;
  scan_error(const std::string& message, scores until_then) : error{message}, partial{std::move(until_then)} {}
};

}  // namespace klens
