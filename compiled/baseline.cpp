#include "kernels.hpp"

namespace klens::compiled {

#if defined(__x86_64__)
constinit const kernels baseline_kernels = detail::kernels_named("sse2");
#else
constinit const kernels baseline_kernels = detail::kernels_named("baseline");
#endif

}  // namespace klens::compiled
