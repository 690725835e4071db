#pragma once

#include <klens/matrix.hpp>
#include <span>

#include "causal_conv.hpp"
#include "part.hpp"
#include "past.hpp"

namespace programs {

/// kernels::causal_conv of a part's sequence, which goes on where its last call ended.
template <class Activation>
void convolve(const pass& at, const void* part, const klens::const_matrix_ref<float>& x,
              const klens::const_matrix_ref<float>& taps, std::span<const float> bias, klens::matrix_ref<float> out,
              const Activation& activation) {
  constexpr int last_inputs = -1;  // the number they are kept under
  const Eigen::Index reach = taps.rows() - 1;
  if (at.before == nullptr || reach == 0) return kernels::causal_conv(x, taps, bias, out, activation);
  const workspace::frame frame{at.work};
  klens::matrix<float>& last = at.before->state(part, last_inputs, reach, x.cols());
  panel in = at.work.take(reach + x.rows(), x.cols()), all = at.work.take(reach + x.rows(), x.cols());
  in.topRows(reach) = last;
  in.bottomRows(x.rows()) = x;
  kernels::causal_conv(in, taps, bias, all, activation);
  out = all.bottomRows(x.rows());
  last = in.bottomRows(reach);
}

}  // namespace programs
