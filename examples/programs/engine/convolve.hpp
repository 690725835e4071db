#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <span>
#include <string>
#include <vector>

#include "causal_conv.hpp"
#include "part.hpp"
#include "past.hpp"
#include "rounding.hpp"

namespace programs {

/// kernels::causal_conv position by position, its last inputs stored otherwise than as floats: an input counts as it is where it
/// comes in, and as it was stored at later positions. `last` [taps - 1 x channels]: those before the first position, and then
/// those before the next one.
template <class Activation>
void convolve_stored(const rounding& how, klens::matrix<float>& last, const klens::const_matrix_ref<float>& x,
                     const klens::const_matrix_ref<float>& taps, std::span<const float> bias, klens::matrix_ref<float> out,
                     const Activation& activation) {
  const Eigen::Index reach = taps.rows() - 1;
  klens::matrix<float> in(reach + 1, x.cols()), all(reach + 1, x.cols());
  for (Eigen::Index t = 0; t < x.rows(); ++t) {
    in.topRows(reach) = last;
    in.row(reach) = x.row(t);
    kernels::causal_conv(in, taps, bias, all, activation);
    out.row(t) = all.row(reach);
    last = in.bottomRows(reach);
    how.apply(klens::row(last, reach - 1));
  }
}

/// kernels::causal_conv of a part's sequence, which goes on where its last call ended.
template <class Activation>
void convolve(const pass& at, const void* part, const klens::const_matrix_ref<float>& x,
              const klens::const_matrix_ref<float>& taps, std::span<const float> bias, klens::matrix_ref<float> out,
              const Activation& activation) {
  const Eigen::Index reach = taps.rows() - 1;
  const rounding* const how = rounding_of(at, part, kept_as::last_inputs);
  if ((at.before == nullptr && how == nullptr) || reach == 0) return kernels::causal_conv(x, taps, bias, out, activation);
  klens::matrix<float> fresh;
  if (at.before == nullptr) fresh = klens::matrix<float>::Zero(reach, x.cols());
  klens::matrix<float>& last = at.before ? at.before->state(part, kept_as::last_inputs, reach, x.cols()) : fresh;
  if (how != nullptr) return convolve_stored(*how, last, x, taps, bias, out, activation);
  const workspace::frame frame{at.work};
  panel in = at.work.take(reach + x.rows(), x.cols()), all = at.work.take(reach + x.rows(), x.cols());
  in.topRows(reach) = last;
  in.bottomRows(x.rows()) = x;
  kernels::causal_conv(in, taps, bias, all, activation);
  out = all.bottomRows(x.rows());
  last = in.bottomRows(reach);
}

/// Adds what a convolution of so many taps keeps: of each channel the last inputs, stored position by position.
inline void add_last_inputs(std::vector<kept_vectors>& all, const void* part, const std::string& prefix, std::size_t taps,
                            std::size_t channels) {
  if (taps > 1) all.push_back({prefix + "conv", klens::site_kind::conv, part, kept_as::last_inputs, taps - 1, channels});
}

}  // namespace programs
