#pragma once

#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// At each measured position |change|^2 / |residual|^2, what a candidate does to the residual stream at the exit of its own
/// stage; 0 where there is no residual.
[[nodiscard]] inline std::vector<double> relative_energies(const const_matrix_ref<float>& changed,
                                                           const const_matrix_ref<float>& untouched,
                                                           const batch_reference& reference) {
  if (changed.rows() != untouched.rows() || changed.cols() != untouched.cols())
    throw shape_error{"the residual stream was " + shape_text(untouched.rows(), untouched.cols()) + " and is now " +
                      shape_text(changed.rows(), changed.cols())};
  if (static_cast<std::size_t>(untouched.rows()) != reference.sequences * reference.length)
    throw shape_error{"the forward's residual(state) is " + shape_text(untouched.rows(), untouched.cols()) +
                      " for a batch of " + std::to_string(reference.sequences * reference.length) +
                      " positions; it must have one row for each"};
  std::vector<double> energies;
  energies.reserve(reference.rows.size());
  for (const std::size_t position : reference.rows) {
    const auto r = static_cast<Eigen::Index>(position);
    const std::span<const float> before = row(untouched, r), after = row(changed, r);
    double size = 0, moved = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
      const double value = before[i], change = after[i] - value;
      size += value * value;
      moved += change * change;
    }
    energies.push_back(size == 0 ? 0 : moved / size);
    if (!is_finite(energies.back())) throw numeric_error{"the residual stream after its stage is not finite"};
  }
  return energies;
}

}  // namespace klens::detail
