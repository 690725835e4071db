#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/detail/as_floats.hpp>
#include <klens/detail/parallel_for.hpp>
#include <klens/detail/simd.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/detail/round_trip_row.hpp>
#include <klens/quant/quantizer.hpp>
#include <span>
#include <string>
#include <vector>

namespace klens {

struct round_trip_options {
  std::size_t threads = 1;
  std::size_t stream_from = std::size_t{16} << 20;  ///< matrices of as many bytes are written around the caches
};

namespace detail {

/// How many rows a thread takes at a time.
[[nodiscard]] inline std::size_t rows_at_once(std::size_t columns) noexcept {
  return std::max<std::size_t>(1, (1 << 16) / std::max<std::size_t>(columns, 1));
}
[[nodiscard]] inline std::size_t parts_of(std::size_t rows, std::size_t columns) noexcept {
  return (rows + rows_at_once(columns) - 1) / rows_at_once(columns);
}

/// Calls use(part, row, floats) for the rows of a matrix, part by part, with room for a row of floats. Errors name the row.
template <class Use>
void for_rows(std::size_t rows, std::size_t columns, std::size_t threads, const Use& use) {
  const std::size_t at_once = rows_at_once(columns);
  parallel_for(threads, parts_of(rows, columns), [&](std::size_t part) {
    std::vector<float> floats;
    for (std::size_t r = part * at_once; r < std::min(rows, (part + 1) * at_once); ++r) {
      try {
        use(part, r, floats);
      } catch (const numeric_error& problem) {
        throw numeric_error{"row " + std::to_string(r) + ": " + problem.what()};
      }
    }
    stream_fence();
  });
}

/// Bytes of a packed row of a matrix whose rows lie one after the other in `packed` bytes.
template <packing_quantizer Quantizer>
[[nodiscard]] std::size_t expect_packed(const char* who, const Quantizer& scheme, std::size_t packed, Eigen::Index rows,
                                        Eigen::Index columns) {
  const std::size_t row_bytes = scheme.bytes(static_cast<std::size_t>(columns));
  if (packed != static_cast<std::size_t>(rows) * row_bytes)
    throw shape_error{std::string{who} + ": " + std::to_string(packed) + " bytes for " + shape_text(rows, columns) +
                      " weights of " + std::string{scheme.name()} + "; give " +
                      std::to_string(static_cast<std::size_t>(rows) * row_bytes)};
  return row_bytes;
}

}  // namespace detail

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
  const bool in_place = static_cast<const void*>(kept.data()) == weights.data();
  const bool streaming = rows * columns * sizeof(float) >= options.stream_from && !in_place;
  std::vector<weight_error> errors(detail::parts_of(rows, columns));
  detail::for_rows(rows, columns, options.threads, [&](std::size_t part, std::size_t r, std::vector<float>& floats) {
    const auto index = static_cast<Eigen::Index>(r);
    const auto from = detail::as_floats(row(weights, index), floats);
    errors[part] += detail::round_trip_row(scheme, from, row(kept, index), streaming);
  });
  weight_error all;
  for (const weight_error& each : errors) all += each;
  return all;
}

/// The stored rows of a matrix, one after the other.
/// Shapes     weights [out x in], as for round_trip; packed takes out rows of scheme.bytes(in) bytes.
/// Throws     as round_trip does (`packed` is then unspecified).
template <packing_quantizer Quantizer, class Weights>
void pack(const Quantizer& scheme, const Eigen::DenseBase<Weights>& of_weights, std::span<std::byte> packed,
          std::size_t threads = 1) {
  const const_matrix_ref<typename Weights::Scalar> weights{of_weights.derived()};
  const std::size_t row_bytes = detail::expect_packed("pack", scheme, packed.size(), weights.rows(), weights.cols());
  const auto rows = static_cast<std::size_t>(weights.rows()), columns = static_cast<std::size_t>(weights.cols());
  detail::for_rows(rows, columns, threads, [&](std::size_t, std::size_t r, std::vector<float>& floats) {
    scheme.pack(detail::as_floats(row(weights, static_cast<Eigen::Index>(r)), floats),
                packed.subspan(r * row_bytes, row_bytes));
  });
}

/// The kept values of what pack wrote: bit for bit what round_trip gives.
/// Shapes     kept [out x in]; packed holds out rows of scheme.bytes(in) bytes.
/// Throws     shape_error.
template <packing_quantizer Quantizer>
void unpack(const Quantizer& scheme, std::span<const std::byte> packed, matrix_ref<float> kept,
            const round_trip_options& options = {}) {
  const std::size_t row_bytes = detail::expect_packed("unpack", scheme, packed.size(), kept.rows(), kept.cols());
  const auto rows = static_cast<std::size_t>(kept.rows()), columns = static_cast<std::size_t>(kept.cols());
  const bool streaming = rows * columns * sizeof(float) >= options.stream_from;
  detail::for_rows(rows, columns, options.threads, [&](std::size_t, std::size_t r, std::vector<float>&) {
    detail::unpack_row(scheme, packed.subspan(r * row_bytes, row_bytes), row(kept, static_cast<Eigen::Index>(r)), streaming);
  });
}

}  // namespace klens
