#include "mamba.hpp"

#include "engine/convolve.hpp"
#include "engine/elementwise.hpp"
#include "engine/recurrence.hpp"
#include "engine/selective_scan.hpp"

namespace programs {

void mamba::add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const {
  const workspace::frame frame{at.work};
  const Eigen::Index inner = a_log->values.rows();
  panel projected = at.work.take(x.rows(), 2 * inner), mixed = at.work.take(x.rows(), inner);
  in_proj(x, projected);
  scan(projected.leftCols(inner), projected.rightCols(inner), mixed, at);
  out_proj.add_to(hidden, mixed, scale);
}

void mamba::scan(const klens::const_matrix_ref<float>& x, const klens::const_matrix_ref<float>& gate,
                 klens::matrix_ref<float> mixed, const pass& at) const {
  workspace& work = at.work;
  const workspace::frame frame{work};
  const Eigen::Index length = x.rows(), inner = a_log->values.rows(), states = a_log->values.cols();
  const Eigen::Index rank = dt_proj.in();

  panel taps = work.take(conv->values.cols(), inner);
  taps = conv->values.transpose();
  convolve(at, this, x, taps, conv_bias ? conv_bias->vector() : std::span<const float>{}, mixed,
           [](auto v) { return kernels::silu(v); });

  panel selected = work.take(length, rank + 2 * states);
  x_proj(mixed, selected);
  auto step_in = selected.leftCols(rank), b = selected.middleCols(rank, states), c = selected.rightCols(states);
  if (step_norm) step_norm(step_in, step_in);
  if (b_norm) b_norm(b, b);
  if (c_norm) c_norm(c, c);

  panel step = work.take(length, inner);
  dt_proj(step_in, step);
  kernels::map_elements(
      all_of(step), [](auto v) { return kernels::softplus(v); }, all_of(step));

  panel rates = work.take(states, inner);
  rates = a_log->values.transpose();
  kernels::map_elements(
      all_of(rates), [](auto v) { return -kernels::log2_e * xsimd::exp(v); }, all_of(rates));
  const recurrence kept{at, this, kept_as::state, states, inner};
  kept.over(length, [&](Eigen::Index first, Eigen::Index count, klens::matrix_ref<float>* state) {
    auto own = mixed.middleRows(first, count);
    kernels::selective_scan(step.middleRows(first, count), own, rates, b.middleRows(first, count), c.middleRows(first, count),
                            d->vector(), own, state);
  });
  for (Eigen::Index t = 0; t < length; ++t)
    kernels::map_elements(
        klens::row(mixed, t), [](auto y, auto z) { return y * kernels::silu(z); }, klens::row(mixed, t), klens::row(gate, t));
}

double mamba::flops(std::size_t length) const {
  return in_proj.flops(length) + x_proj.flops(length) + dt_proj.flops(length) + out_proj.flops(length);
}

std::vector<kept_vectors> mamba::kept() const {
  const auto channels = static_cast<std::size_t>(a_log->values.rows()), states = static_cast<std::size_t>(a_log->values.cols());
  std::vector<kept_vectors> all{
      {prefix_of(a_log->name, "A_log") + "state", klens::site_kind::state, this, kept_as::state, channels, states}};
  add_last_inputs(all, this, prefix_of(conv->name, "conv1d"), static_cast<std::size_t>(conv->values.cols()), channels);
  return all;
}

mamba take_mamba(checkpoint& tensors, const std::string& prefix, const mamba_shape& shape) {
  mamba taken = take_mamba_core(tensors, prefix, shape);
  taken.in_proj = take_linear(tensors, prefix + "in_proj", 2 * shape.inner, shape.width, shape.proj_bias,
                              {{"x", 0, shape.inner}, {"z", shape.inner, shape.inner}});
  taken.out_proj = take_linear(tensors, prefix + "out_proj", shape.width, shape.inner, shape.proj_bias);
  return taken;
}

mamba take_mamba_core(checkpoint& tensors, const std::string& prefix, const mamba_shape& shape, const std::string& index) {
  mamba taken;
  taken.x_proj =
      take_linear(tensors, prefix + "x_proj" + index, shape.rank + 2 * shape.states, shape.inner, false,
                  {{"dt", 0, shape.rank}, {"B", shape.rank, shape.states}, {"C", shape.rank + shape.states, shape.states}});
  taken.dt_proj = take_linear(tensors, prefix + "dt_proj" + index, shape.inner, shape.rank, true);
  taken.conv = tensors.take(prefix + "conv1d.weight", {shape.inner, 1, shape.taps});
  taken.conv_bias = tensors.take_if(shape.conv_bias, prefix + "conv1d.bias", shape.inner);
  taken.a_log = tensors.take(prefix + "A_log" + index, {shape.inner, shape.states});
  taken.d = tensors.take(prefix + "D" + index, {shape.inner});
  return taken;
}

}  // namespace programs
