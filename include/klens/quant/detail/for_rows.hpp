#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/detail/parallel_for.hpp>
#include <klens/error.hpp>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// How many rows a thread takes at a time, and how many such parts a matrix has.
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
        refuse<numeric_error>({"row ", r, ": ", problem.what()});
      }
    }
  });
}

}  // namespace klens::detail
