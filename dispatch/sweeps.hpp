#pragma once

#include <klens/metric/detail/row_sweeps.hpp>

namespace klens::detail {

// Each from a source of its own, compiled for that instruction set.
[[nodiscard]] row_sweeps sse2_sweeps() noexcept;
[[nodiscard]] row_sweeps avx2_sweeps() noexcept;
[[nodiscard]] row_sweeps avx512_sweeps() noexcept;

}  // namespace klens::detail
