#include "sweeps.hpp"

namespace klens::detail {

row_sweeps sse2_sweeps() noexcept { return sweeps_for<best_arch>(); }

}  // namespace klens::detail
