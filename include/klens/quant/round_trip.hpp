#pragma once

#include <cstddef>
#include <klens/detail/as_floats.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/detail/for_rows.hpp>
#include <klens/quant/detail/round_trip_row.hpp>
#include <klens/quant/quantizer.hpp>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

struct round_trip_options {
  std::size_t threads = 1;
};

/// What storage would give back of a whole matrix, row by row, and what that changes.
/// Shapes     weights and kept [out x in]; weights are float, half or bfloat16 (converted one row at a time), and may be the
///            kept matrix itself.
/// Result     the same bits for any number of threads.
/// Throws     shape_error; argument_error where the scheme cannot store such rows; numeric_error, naming the row, where it
///            cannot store these weights (`kept` is then unspecified).
template <quantizer Quantizer, class Weights>
weight_error round_trip(const Quantizer& scheme, const Eigen::DenseBase<Weights>& of_weights, matrix_ref<float> kept,
                        const round_trip_options& options = {}) {
  const const_matrix_ref<typename Weights::Scalar> weights{of_weights.derived()};
  if (weights.rows() != kept.rows() || weights.cols() != kept.cols())
    throw shape_error{"round_trip: weights are " + detail::shape_text(weights.rows(), weights.cols()) + ", kept is " +
                      detail::shape_text(kept.rows(), kept.cols())};
  const auto rows = static_cast<std::size_t>(weights.rows()), columns = static_cast<std::size_t>(weights.cols());
  std::vector<weight_error> errors(detail::parts_of(rows, columns));
  detail::for_rows(rows, columns, options.threads, [&](std::size_t part, std::size_t r, std::vector<float>& floats) {
    const auto index = static_cast<Eigen::Index>(r);
    const auto from = detail::as_floats(row(weights, index), floats);
    errors[part] += detail::round_trip_row(scheme, from, row(kept, index));
  });
  weight_error all;
  for (const weight_error& each : errors) all += each;
  return all;
}

}  // namespace klens
