#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/error.hpp>
#include <span>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

inline constexpr float largest_fp16_scale = 65519.996f;  // the last float that does not round to infinity

// What throws is not inlined: the loops are flattened, and the texts would be most of their code.

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

/// Throws for the first group of `part`, which begins in column `start`, whose scale cannot be stored.
template <class Rows>
[[noreturn, gnu::noinline, gnu::cold]] void refuse_groups(const Rows& rows, const float* scale, std::span<const float> part,
                                                          std::size_t group_size, std::size_t start) {
  std::size_t first = 0;
  for (; std::abs(*scale) <= rows.largest_scale(); ++scale) first += group_size;
  const auto weights = part.subspan(first, std::min(group_size, part.size() - first));
  first += start;
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (!std::isfinite(weights[i])) refuse_weight(rows.name(), weights[i], first + i, "only finite weights can be stored");
  throw numeric_error{std::string{rows.name()} + ": columns " + std::to_string(first) + " to " +
                      std::to_string(first + weights.size() - 1) + " need a scale of " + std::to_string(*scale) + ", " +
                      rows.limit_text()};
}

}  // namespace klens::detail
