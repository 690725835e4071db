#include <cstdlib>
#include <cstring>
#include <klens/detail/compiled.hpp>

namespace klens::compiled {

extern const kernels baseline_kernels;

#if defined(__x86_64__)
extern const kernels avx2_kernels, avx512_kernels;
#endif

namespace {

/// What this processor and operating system have, the widest first. (The compiler's own question and not xsimd's dispatch:
/// xsimd 8.1 overlooks FMA on Intel and does not ask the operating system.)
struct available {
  const kernels* all[3] = {};
  std::size_t count = 0;

  available() noexcept {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw"))
      all[count++] = &avx512_kernels;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all[count++] = &avx2_kernels;
#endif
    all[count++] = &baseline_kernels;
  }
};

}  // namespace

const kernels* find(const char* instruction_set) noexcept {
  const available here;
  for (std::size_t i = 0; i < here.count; ++i)
    if (std::strcmp(here.all[i]->instruction_set, instruction_set) == 0) return here.all[i];
  return nullptr;
}

const kernels& chosen() noexcept {
  static const kernels* const best = [] {
    const char* const wanted = std::getenv("KLENS_INSTRUCTION_SET");
    const kernels* const named = wanted == nullptr ? nullptr : find(wanted);
    return named != nullptr ? named : available{}.all[0];
  }();
  return *best;
}

}  // namespace klens::compiled
