#pragma once
// Vectors of xsimd as klens' own loops use them, whichever version of it is there (8.1 to 14): klens::simd::batch<float>. For
// engines whose kernels are written with xsimd, too.

#include <klens/detail/simd.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace simd {

using detail::at_least;
using detail::batch;
using detail::best_arch;
using detail::bits_of;
using detail::from_bits;
using detail::lanes;
using detail::load_first;
using detail::store_first;
using detail::sum_of;

}  // namespace simd
}  // namespace klens
