#include "kernels.hpp"

namespace klens::compiled {

constinit const kernels avx2_kernels = detail::kernels_named("avx2");

}  // namespace klens::compiled
