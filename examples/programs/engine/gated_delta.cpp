#include "gated_delta.hpp"

#include <cmath>

#include "engine/convolve.hpp"
#include "engine/elementwise.hpp"
#include "engine/gated_delta_rule.hpp"
#include "engine/recurrence.hpp"

namespace programs {

namespace {

/// row *= scale / sqrt(sum(row^2) + 1e-6)
void to_unit_length(std::span<float> row, double scale) {
  const float square = kernels::sum_elements(std::span<const float>(row), [](auto x) { return x * x; });
  const auto factor = static_cast<float>(scale / std::sqrt(static_cast<double>(square) + 1e-6));
  kernels::map_elements(
      row, [factor](auto x) { return x * factor; }, row);
}

}  // namespace

void gated_delta::add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale,
                         pass& at) const {
  workspace& work = at.work;
  const workspace::frame frame{work};
  const Eigen::Index length = x.rows();
  const auto index = [](std::size_t i) { return static_cast<Eigen::Index>(i); };
  const Eigen::Index mixed_width = index(shape.mixed()), values = index(shape.values()), heads = index(shape.value_heads);

  panel all = work.take(length, mixed_width + values + 2 * heads);
  for (const auto& [projection, column] : projections) projection(x, all.middleCols(index(column), projection.out()));
  const auto gate = all.middleCols(mixed_width, values);

  panel taps = work.take(index(shape.taps), mixed_width), mixed = work.take(length, mixed_width);
  Eigen::Index channel = 0;
  for (const parameter* each : conv) {
    taps.middleCols(channel, each->values.rows()) = each->values.transpose();
    channel += each->values.rows();
  }
  convolve(at, this, all.leftCols(mixed_width), taps, {}, mixed, [](auto v) { return kernels::silu(v); });

  panel decay = work.take(heads, length), learning = work.take(heads, length), rates = work.take(1, heads);
  kernels::map_elements(
      all_of(rates), [](auto v) { return -kernels::log2_e * xsimd::exp(v); }, a_log->vector());
  learning = all.middleCols(mixed_width + values, heads).transpose();
  decay = all.rightCols(heads).transpose();
  for (Eigen::Index head = 0; head < heads; ++head) {
    const float bias = step_bias->values(0, head), rate = rates(0, head);
    kernels::map_elements(
        klens::row(decay, head), [bias, rate](auto v) { return kernels::exp2_of(kernels::softplus(v + bias) * rate); },
        klens::row(decay, head));
    kernels::map_elements(
        klens::row(learning, head), [this](auto v) { return kernels::sigmoid(v) * learning_scale; },
        klens::row(learning, head));
  }

  const std::size_t keys = shape.keys();
  for (Eigen::Index t = 0; t < length; ++t) {
    const std::span<float> row = klens::row(mixed, t);
    for (std::size_t first = 0; first < keys; first += shape.key_width) {
      to_unit_length(row.subspan(first, shape.key_width), 1 / std::sqrt(static_cast<double>(shape.key_width)));
      to_unit_length(row.subspan(keys + first, shape.key_width), 1);
    }
  }
  auto y = mixed.rightCols(values);
  const std::size_t served = shape.value_heads / shape.key_heads;
  const recurrence kept{at, this, kept_as::state, heads * index(shape.key_width), index(shape.value_width)};
  for (std::size_t head = 0; head < shape.value_heads; ++head) {
    const Eigen::Index query = index(head / served * shape.key_width), key_width = index(shape.key_width);
    const Eigen::Index column = index(2 * keys + head * shape.value_width), value_width = index(shape.value_width);
    kept.over(
        length, index(head) * key_width, key_width,
        [&](Eigen::Index first, Eigen::Index count, klens::matrix_ref<float>* memory) {
          const auto of_head = [&](const panel& rates_of) {
            return klens::row(rates_of, index(head)).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
          };
          auto channels = mixed.block(first, column, count, value_width);
          kernels::gated_delta_rule(mixed.block(first, query, count, key_width),
                                    mixed.block(first, index(keys) + query, count, key_width), channels, of_head(decay),
                                    of_head(learning), channels, memory);
        });
  }
  norm.of_heads(y);
  for (Eigen::Index t = 0; t < length; ++t)
    kernels::map_elements(
        klens::row(y, t), [](auto v, auto z) { return v * kernels::silu(z); }, klens::row(y, t), klens::row(gate, t));
  out_proj.add_to(hidden, y, scale);
}

double gated_delta::flops(std::size_t length) const {
  double total = out_proj.flops(length);
  for (const auto& [projection, column] : projections) total += projection.flops(length);
  return total;
}

std::vector<kept_vectors> gated_delta::kept() const {
  const std::string prefix = prefix_of(a_log->name, "A_log");
  std::vector<kept_vectors> all{{prefix + "state", klens::site_kind::state, this, kept_as::state, shape.value_heads,
                                 shape.value_width * shape.key_width}};
  add_last_inputs(all, this, prefix, shape.taps, shape.mixed());
  return all;
}

delta_shape delta_shape_of(const config& fields, std::size_t width) {
  const delta_shape shape{.width = width,
                          .key_heads = fields.count("linear_num_key_heads", 16),
                          .value_heads = fields.count("linear_num_value_heads", 32),
                          .key_width = fields.count("linear_key_head_dim", 128),
                          .value_width = fields.count("linear_value_head_dim", 128),
                          .taps = fields.count("linear_conv_kernel_dim", 4)};
  if (shape.value_heads % shape.key_heads != 0) fields.refuse("linear_num_key_heads", "does not divide linear_num_value_heads");
  return shape;
}

gated_delta take_gated_delta(checkpoint& tensors, const std::string& prefix, const delta_shape& shape, double epsilon,
                             const std::string& norm, const std::string& output) {
  gated_delta taken;
  taken.shape = shape;
  taken.a_log = tensors.take(prefix + "A_log", {shape.value_heads});
  taken.step_bias = tensors.take(prefix + "dt_bias", {shape.value_heads});
  taken.norm = take_norm(tensors, prefix + norm, shape.value_width, epsilon);
  taken.out_proj = take_linear(tensors, prefix + output, shape.width, shape.values(), false);
  return taken;
}

}  // namespace programs
