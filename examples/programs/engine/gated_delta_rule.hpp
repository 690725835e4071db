#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/matrix.hpp>
#include <span>
#include <vector>

#include "lanes.hpp"

namespace programs::kernels {

/// The gated delta rule, one head of one sequence: a memory S [key width x value width], 0 at first, that forgets, and learns
/// what it does not yet answer to a key,
///   S(t) = decay(t) S(t-1) + k(t) (beta(t) (v(t) - (decay(t) S(t-1))^T k(t)))^T,   out(t) = S(t)^T q(t)
/// Shapes     q, k [length x key width]; v, out [length x value width], which may be the same; decay, beta [length].
///            `memory`, where it is given: S before the first position, and then after the last.
/// Source     Yang et al., Gated Delta Networks, arXiv:2412.06464, as a recurrence.
template <class Arch = best_arch>
void gated_delta_rule(const klens::const_matrix_ref<float>& q, const klens::const_matrix_ref<float>& k,
                      const klens::const_matrix_ref<float>& v, std::span<const float> decay, std::span<const float> beta,
                      klens::matrix_ref<float> out, klens::matrix_ref<float>* memory = nullptr) {
  using wide = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  const auto keys = static_cast<std::size_t>(k.cols()), values = static_cast<std::size_t>(v.cols());
  std::vector<float> state(keys * width);  // of one batch of values
  for (std::size_t first = 0; first < values; first += width) {
    const std::size_t count = std::min(width, values - first);
    for (std::size_t i = 0; i < keys; ++i)
      (memory ? load_first<Arch>(memory->row(static_cast<Eigen::Index>(i)).data() + first, count) : wide(0.f))
          .store_unaligned(state.data() + i * width);
    for (Eigen::Index t = 0; t < v.rows(); ++t) {
      const float *const key = k.data() + t * k.outerStride(), *const query = q.data() + t * q.outerStride();
      const wide kept(decay[static_cast<std::size_t>(t)]);
      wide answer(0.f), result(0.f);
      for (std::size_t i = 0; i < keys; ++i) {
        const wide s = wide::load_unaligned(state.data() + i * width) * kept;
        s.store_unaligned(state.data() + i * width);
        answer = xsimd::fma(s, wide(key[i]), answer);
      }
      const wide wanted = load_first<Arch>(v.data() + t * v.outerStride() + first, count);
      const wide learned = (wanted - answer) * wide(beta[static_cast<std::size_t>(t)]);
      for (std::size_t i = 0; i < keys; ++i) {
        const wide s = xsimd::fma(wide(key[i]), learned, wide::load_unaligned(state.data() + i * width));
        s.store_unaligned(state.data() + i * width);
        result = xsimd::fma(s, wide(query[i]), result);
      }
      store_first<Arch>(result, out.data() + t * out.outerStride() + first, count);
    }
    for (std::size_t i = 0; memory != nullptr && i < keys; ++i)
      store_first<Arch>(wide::load_unaligned(state.data() + i * width),
                        memory->row(static_cast<Eigen::Index>(i)).data() + first, count);
  }
}

}  // namespace programs::kernels
