#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/error.hpp>
#include <span>
#include <string>

namespace klens::detail {

// What throws is not inlined: kernels are flattened, and texts in each of them would be most of their code.

[[noreturn, gnu::noinline, gnu::cold]] inline void refuse_length(const std::string& scheme, const char* what, std::size_t is,
                                                                 std::size_t needed) {
  throw shape_error{scheme + ": " + what + " has a length of " + std::to_string(is) + ", this row needs " +
                    std::to_string(needed)};
}

/// Throws shape_error unless `what` has the length that a row needs.
template <class Scheme>
void expect_length(const Scheme& scheme, const char* what, std::size_t is, std::size_t needed) {
  if (is != needed) [[unlikely]]
    refuse_length(scheme.name(), what, is, needed);
}

[[noreturn, gnu::noinline, gnu::cold]] inline void refuse_weight(const std::string& scheme, float weight, std::size_t column,
                                                                 const std::string& why) {
  throw numeric_error{scheme + ": the weight in column " + std::to_string(column) + " is " + std::to_string(weight) + "; " +
                      why};
}

/// Throws for the first group of `part`, which begins in column `start`, that cannot be stored.
template <class Codec, class Tile>
[[noreturn, gnu::noinline, gnu::cold]] void refuse(const Codec& codec, const Tile& tile, std::span<const float> part,
                                                   std::size_t group_size, std::size_t start) {
  std::size_t first = 0;
  const float* scale = tile.divisor;
  for (; std::abs(*scale) <= codec.largest_scale(); ++scale) first += group_size;
  const auto weights = part.subspan(first, std::min(group_size, part.size() - first));
  first += start;
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (!std::isfinite(weights[i])) refuse_weight(codec.name(), weights[i], first + i, "only finite weights can be stored");
  throw numeric_error{std::string{codec.name()} + ": columns " + std::to_string(first) + " to " +
                      std::to_string(first + weights.size() - 1) + " need a scale of " + std::to_string(*scale) + ", " +
                      codec.limit_text()};
}

}  // namespace klens::detail
