#pragma once

#include <klens/matrix.hpp>

#ifdef KLENS_ONEDNN
#include <dnnl.h>
#include <omp.h>
#endif

// The matrix products of the engine: the one place that knows who carries them out. Eigen does; oneDNN where the build says so.

namespace programs {

#ifdef KLENS_ONEDNN
namespace detail {

/// c = alpha a op(b) + beta c. One thread: the engine has its own, and results must not depend on their number.
inline void gemm(bool transposed, float alpha, const klens::const_matrix_ref<float>& a, const klens::const_matrix_ref<float>& b,
                 float beta, klens::matrix_ref<float>& c) {
  omp_set_num_threads(1);  // for the calling thread only
  dnnl_sgemm('N', transposed ? 'T' : 'N', c.rows(), c.cols(), a.cols(), alpha, a.data(), a.outerStride(), b.data(),
             b.outerStride(), beta, c.data(), c.outerStride());
}

}  // namespace detail
#endif

/// c = a b
inline void multiply(const klens::const_matrix_ref<float>& a, const klens::const_matrix_ref<float>& b,
                     klens::matrix_ref<float> c) {
#ifdef KLENS_ONEDNN
  detail::gemm(false, 1, a, b, 0, c);
#else
  c.noalias() = a * b;
#endif
}

/// c = a b^T
inline void multiply_transposed(const klens::const_matrix_ref<float>& a, const klens::const_matrix_ref<float>& b,
                                klens::matrix_ref<float> c) {
#ifdef KLENS_ONEDNN
  detail::gemm(true, 1, a, b, 0, c);
#else
  c.noalias() = a * b.transpose();
#endif
}

/// c += scale a b^T
inline void add_multiplied_transposed(const klens::const_matrix_ref<float>& a, const klens::const_matrix_ref<float>& b,
                                      float scale, klens::matrix_ref<float> c) {
#ifdef KLENS_ONEDNN
  detail::gemm(true, scale, a, b, 1, c);
#else
  c.noalias() += scale * (a * b.transpose());
#endif
}

}  // namespace programs
