#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/concepts.hpp>
#include <klens/detail/parallel_for.hpp>
#include <klens/detail/round_trip_row.hpp>
#include <klens/detail/simd.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/weight_error.hpp>
#include <span>
#include <string>
#include <vector>

namespace klens {

struct round_trip_options {
  std::size_t threads = 1;
  std::size_t stream_from = std::size_t{16} << 20;  ///< matrices of as many bytes are written around the caches
};

/// What storage would give back of a whole matrix, row by row, and what that changes.
/// Shapes     weights and kept [out x in]; they may be the same matrix.
/// Result     the same bits for any number of threads.
/// Throws     shape_error; argument_error where the scheme cannot store such rows; numeric_error, naming the row, where it
///            cannot store these weights (`kept` is then unspecified).
template <quantizer Quantizer>
weight_error round_trip(const Quantizer& scheme, const_matrix_ref<float> weights, matrix_ref<float> kept,
                        const round_trip_options& options = {}) {
  if (weights.rows() != kept.rows() || weights.cols() != kept.cols())
    throw shape_error{"round_trip: weights are " + detail::shape_text(weights.rows(), weights.cols()) + ", kept is " +
                      detail::shape_text(kept.rows(), kept.cols())};
  const auto rows = static_cast<std::size_t>(weights.rows()), columns = static_cast<std::size_t>(weights.cols());
  const bool streaming = rows * columns * sizeof(float) >= options.stream_from && kept.data() != weights.data();
  const std::size_t at_once = std::max<std::size_t>(1, (1 << 16) / std::max<std::size_t>(columns, 1));
  std::vector<weight_error> errors((rows + at_once - 1) / at_once);
  detail::parallel_for(options.threads, errors.size(), [&](std::size_t part) {
    for (std::size_t r = part * at_once; r < std::min(rows, (part + 1) * at_once); ++r) {
      const auto index = static_cast<Eigen::Index>(r);
      try {
        errors[part] += detail::round_trip_row(scheme, row(weights, index), row(kept, index), streaming);
      } catch (const numeric_error& problem) {
        throw numeric_error{"row " + std::to_string(r) + ": " + problem.what()};
      }
    }
    detail::stream_fence();
  });
  weight_error all;
  for (const weight_error& each : errors) all += each;
  return all;
}

/// The kept values of a matrix whose packed rows lie one after the other: bit for bit what round_trip gives.
/// Shapes     kept [out x in]; packed holds out rows of scheme.bytes(in) bytes.
/// Throws     shape_error.
template <packing_quantizer Quantizer>
void unpack(const Quantizer& scheme, std::span<const std::byte> packed, matrix_ref<float> kept,
            const round_trip_options& options = {}) {
  const auto rows = static_cast<std::size_t>(kept.rows()), columns = static_cast<std::size_t>(kept.cols());
  const std::size_t row_bytes = scheme.bytes(columns);
  if (packed.size() != rows * row_bytes)
    throw shape_error{"unpack: " + std::to_string(packed.size()) + " bytes are packed, kept is " +
                      detail::shape_text(kept.rows(), kept.cols()) + ", which takes " + std::to_string(rows * row_bytes)};
  const bool streaming = rows * columns * sizeof(float) >= options.stream_from;
  const std::size_t at_once = std::max<std::size_t>(1, (1 << 16) / std::max<std::size_t>(columns, 1));
  detail::parallel_for(options.threads, (rows + at_once - 1) / at_once, [&](std::size_t part) {
    for (std::size_t r = part * at_once; r < std::min(rows, (part + 1) * at_once); ++r)
      detail::unpack_row(scheme, packed.subspan(r * row_bytes, row_bytes), row(kept, static_cast<Eigen::Index>(r)), streaming);
    detail::stream_fence();
  });
}

}  // namespace klens
