#pragma once

#include <cmath>
#include <cstddef>
#include <klens/detail/text.hpp>
#include <klens/matrix.hpp>
#include <span>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Gives what was changed in the residual stream so many times its energy.
inline void scale_change(matrix_ref<float> changed, const const_matrix_ref<float>& untouched, float energy) {
  const float by = std::sqrt(energy);
  for (Eigen::Index r = 0; r < changed.rows(); ++r) {
    const std::span<float> moved = row(changed, r);
    const std::span<const float> from = row(untouched, r);
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i] = from[i] + by * (moved[i] - from[i]);
  }
}

/// Is the damage quadratic in the perturbation? With half and with twice the energy of a change it is to be half and twice the KL.
/// Empty where that is about so, else the remark for whoever relies on it.
[[nodiscard]] inline std::string remark_on_curvature(const std::string& candidate, double half, double twice) {
  constexpr double tolerated = 0.15;  // there the damage grows no faster than the 1.6th power of the change
  if (std::abs(half / 0.5 - 1) <= tolerated && std::abs(twice / 2 - 1) <= tolerated) return {};
  return "damage is not quadratic in the perturbation: with half and twice its energy " + candidate + " loses " +
         number_text(half) + " and " + number_text(twice) +
         " times its KL, not 0.5 and 2; predictions for such schemes are rough, use the method refine or exact";
}

}  // namespace klens::detail
