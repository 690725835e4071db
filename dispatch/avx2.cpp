#include "sweeps.hpp"

namespace klens::detail {

row_sweeps avx2_sweeps() noexcept { return sweeps_for<best_arch>(); }

}  // namespace klens::detail
