#include "kernels.hpp"

namespace klens::compiled {

constinit const kernels avx512_kernels = detail::kernels_named("avx512");

}  // namespace klens::compiled
