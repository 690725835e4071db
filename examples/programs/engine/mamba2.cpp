#include "mamba2.hpp"

#include "engine/convolve.hpp"
#include "engine/elementwise.hpp"
#include "engine/recurrence.hpp"
#include "engine/selective_scan.hpp"

namespace programs {

void mamba2::add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const {
  workspace& work = at.work;
  const workspace::frame frame{work};
  const Eigen::Index length = x.rows(), heads = a_log->values.size(), inner = out_proj.in();
  const Eigen::Index mixed_width = conv->values.rows(), shared = (mixed_width - inner) / 2,
                     count = static_cast<Eigen::Index>(groups);

  panel projected = work.take(length, inner + mixed_width + heads);
  in_proj(x, projected);
  const Eigen::Index widths[] = {inner, inner, shared, shared, heads};
  for (Eigen::Index i = 0, first = 0; i < 5; first += widths[i++])
    if (scales[static_cast<std::size_t>(i)] != 1) projected.middleCols(first, widths[i]) *= scales[static_cast<std::size_t>(i)];
  const auto gate = projected.leftCols(inner);

  panel taps = work.take(conv->values.cols(), mixed_width), mixed = work.take(length, mixed_width);
  taps = conv->values.transpose();
  convolve(at, this, projected.middleCols(inner, mixed_width), taps, conv_bias ? conv_bias->vector() : std::span<const float>{},
           mixed, [](auto v) { return kernels::silu(v); });

  panel step = work.take(length, heads), decay = work.take(length, heads), rates = work.take(1, heads);
  kernels::map_elements(
      all_of(rates), [](auto v) { return -kernels::log2_e * xsimd::exp(v); }, a_log->vector());
  for (Eigen::Index t = 0; t < length; ++t) {
    kernels::map_elements(
        klens::row(step, t),
        [this](auto v, auto bias) {
          using batch = decltype(v);
          return xsimd::min(batch(step_limits[1]), xsimd::max(batch(step_limits[0]), kernels::softplus(v + bias)));
        },
        klens::row(projected.rightCols(heads), t), step_bias->vector());
    kernels::map_elements(
        klens::row(decay, t), [](auto v, auto rate) { return kernels::exp2_of(v * rate); }, klens::row(step, t), all_of(rates));
  }

  auto y = mixed.leftCols(inner);
  const Eigen::Index group_heads = heads / count, group_width = inner / count, states = shared / count;
  for (Eigen::Index g = 0; g < count; ++g) {
    auto channels = mixed.middleCols(g * group_width, group_width);
    const recurrence kept{at, this, kept_as::state + static_cast<int>(g), states, group_width};
    kept.over(length, [&](Eigen::Index first, Eigen::Index positions, klens::matrix_ref<float>* state) {
      auto own = channels.middleRows(first, positions);
      const auto block = [&](auto& of, Eigen::Index column, Eigen::Index columns) {
        return of.block(first, column, positions, columns);
      };
      kernels::state_space_scan(
          block(decay, g * group_heads, group_heads), block(step, g * group_heads, group_heads), own,
          block(mixed, inner + g * states, states), block(mixed, inner + shared + g * states, states),
          d->vector().subspan(static_cast<std::size_t>(g * group_heads), static_cast<std::size_t>(group_heads)), own, state);
    });
  }
  for (Eigen::Index t = 0; t < length; ++t) {
    const std::span<float> row = klens::row(y, t);
    const auto apply_gate = [&] {
      kernels::map_elements(
          row, [](auto v, auto z) { return v * kernels::silu(z); }, row, klens::row(gate, t));
    };
    if (!norm_before_gate || norm.weight == nullptr) apply_gate();
    if (norm.weight == nullptr) continue;
    for (std::size_t g = 0, size = row.size() / groups; g < groups; ++g)
      normalize_row(row.subspan(g * size, size), norm.weight->vector().subspan(g * size, size), norm.epsilon,
                    row.subspan(g * size, size));
    if (norm_before_gate) apply_gate();
  }
  out_proj.add_to(hidden, y, scale);
}

double mamba2::flops(std::size_t length) const { return in_proj.flops(length) + out_proj.flops(length); }

std::vector<kept_vectors> mamba2::kept() const {
  const auto heads = static_cast<std::size_t>(a_log->values.size()), inner = static_cast<std::size_t>(out_proj.in());
  const auto mixed = static_cast<std::size_t>(conv->values.rows()), states = (mixed - inner) / 2 / groups;
  std::vector<kept_vectors> all{{prefix_of(a_log->name, "A_log") + "state", klens::site_kind::state, this, kept_as::state,
                                 heads, inner / heads * states}};
  add_last_inputs(all, this, prefix_of(conv->name, "conv1d"), static_cast<std::size_t>(conv->values.cols()), mixed);
  return all;
}

mamba2 take_mamba2(checkpoint& tensors, const std::string& prefix, const mamba2_shape& shape) {
  mamba2 taken;
  const std::size_t inner = shape.inner, shared = shape.groups * shape.states, mixed = inner + 2 * shared;
  taken.in_proj = take_linear(tensors, prefix + "in_proj", inner + mixed + shape.heads, shape.width, shape.in_bias,
                              {{"z", 0, inner},
                               {"x", inner, inner},
                               {"B", 2 * inner, shared},
                               {"C", 2 * inner + shared, shared},
                               {"dt", inner + mixed, shape.heads}});
  taken.out_proj = take_linear(tensors, prefix + "out_proj", shape.width, inner, shape.out_bias);
  taken.conv = tensors.take(prefix + "conv1d.weight", {mixed, 1, shape.taps});
  taken.conv_bias = tensors.take_if(shape.conv_bias, prefix + "conv1d.bias", mixed);
  taken.a_log = tensors.take(prefix + "A_log", {shape.heads});
  taken.d = tensors.take(prefix + "D", {shape.heads});
  taken.step_bias = tensors.take(prefix + "dt_bias", {shape.heads});
  if (shape.norm) taken.norm = take_norm(tensors, prefix + "norm", inner, shape.epsilon);
  taken.groups = shape.groups;
  taken.step_limits = shape.step_limits;
  return taken;
}

}  // namespace programs
