#pragma once

#include <cmath>
#include <cstdint>
#include <klens/detail/random.hpp>
#include <klens/matrix.hpp>
#include <limits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Moves every number to one of its two neighbours: the smallest change that rounding can make.
inline void change_last_bits(matrix_ref<float> values, std::uint64_t seed) {
  random_stream random{seed};
  for (Eigen::Index r = 0; r < values.rows(); ++r)
    for (float& each : row(values, r)) each = std::nextafter(each, (random.bits() >> 63) != 0 ? HUGE_VALF : -HUGE_VALF);
}

}  // namespace klens::detail
