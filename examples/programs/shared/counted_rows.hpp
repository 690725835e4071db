#pragma once

#include <cstddef>
#include <klens/matrix.hpp>

#include "token_set.hpp"

namespace programs {

/// Of a batch's logits, the rows whose positions count; the first row is position `first` of the token set.
[[nodiscard]] inline klens::matrix<float> counted_rows(klens::matrix<float> logits, const token_set& tokens,
                                                       std::size_t first) {
  if (tokens.roles.empty()) return logits;
  klens::matrix<float> counted(logits.rows(), logits.cols());
  Eigen::Index kept = 0;
  for (Eigen::Index row = 0; row < logits.rows(); ++row)
    if (tokens.counts(first + static_cast<std::size_t>(row))) counted.row(kept++) = logits.row(row);
  counted.conservativeResize(kept, logits.cols());
  return counted;
}

}  // namespace programs
