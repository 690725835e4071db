#include "sweeps.hpp"

namespace klens::detail {

// The compiler's own question and not xsimd's dispatch: xsimd 8.1 overlooks FMA on Intel and does not ask the operating system.
row_sweeps chosen_sweeps() noexcept {
  static const row_sweeps best = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                                         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
                                     ? avx512_sweeps()
                                 : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2_sweeps()
                                                                                                   : sse2_sweeps();
  return best;
}

}  // namespace klens::detail
