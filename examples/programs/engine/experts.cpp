#include "experts.hpp"

#include <algorithm>
#include <numeric>
#include "engine/elementwise.hpp"

namespace programs {

void add_experts(klens::matrix_ref<float> out, const klens::const_matrix_ref<float>& x, float scale,
                 const expert_positions& positions, const klens::const_matrix_ref<float>& weights,
                 const std::function<const part&(std::size_t)>& of, pass& at) {
  for (std::size_t i = 0; i < positions.size(); ++i) {
    if (positions[i].empty()) continue;
    const workspace::frame frame{at.work};
    const auto count = static_cast<Eigen::Index>(positions[i].size());
    panel some = at.work.take(count, x.cols()), result = at.work.take(count, x.cols());
    for (Eigen::Index r = 0; r < count; ++r) some.row(r) = x.row(positions[i][static_cast<std::size_t>(r)]);
    result.setZero();
    of(i).add_to(result, some, scale, at);
    for (Eigen::Index r = 0; r < count; ++r) {
      const Eigen::Index t = positions[i][static_cast<std::size_t>(r)];
      kernels::map_elements(
          klens::row(out, t), [w = weights(t, static_cast<Eigen::Index>(i))](auto sum, auto y) { return sum + y * w; },
          klens::row(out, t), klens::row(result, r));
    }
  }
}

void experts::add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const {
  const workspace::frame frame{at.work};
  panel weights = at.work.take(x.rows(), static_cast<Eigen::Index>(each.size()));
  router(x, weights);
  expert_positions positions(each.size());
  std::vector<std::size_t> order(each.size());
  for (Eigen::Index t = 0; t < x.rows(); ++t) {
    const std::span<float> likely = klens::row(weights, t);
    const float total = kernels::exponentials(likely, 1);
    for (float& weight : likely) weight /= total;
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return likely[a] > likely[b]; });
    const auto chosen = std::span(order).first(active);
    float sum = 0;
    for (const std::size_t i : chosen) {
      positions[i].push_back(t);
      sum += likely[i];
    }
    for (const std::size_t i : chosen)
      if (sum_to_one) likely[i] /= sum;
  }
  add_experts(
      hidden, x, scale, positions, weights, [this](std::size_t i) -> const part& { return each[i]; }, at);
}

void gate_of_position::add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale,
                              pass& at) const {
  const workspace::frame frame{at.work};
  panel result = at.work.take(x.rows(), x.cols()), weights = at.work.take(x.rows(), 1);
  gate(x, weights);
  kernels::map_elements(
      all_of(weights), [scale](auto v) { return kernels::sigmoid(v) * scale; }, all_of(weights));
  result.setZero();
  of.add_to(result, x, 1, at);
  for (Eigen::Index t = 0; t < x.rows(); ++t) hidden.row(t) += weights(t, 0) * result.row(t);
}

double experts::flops(std::size_t length) const {
  return router.flops(length) + static_cast<double>(active) * each.front().flops(length);
}

experts take_experts(checkpoint& tensors, const std::string& prefix, std::size_t count, std::size_t active, std::size_t width,
                     std::size_t inner, const std::string& router) {
  experts taken;
  taken.router = take_linear(tensors, prefix + router, count, width, false);
  taken.active = active;
  const std::string stacked = prefix + "experts.gate_up_proj";
  if (tensors.contains(stacked)) {
    taken.each = take_stacked_mlps(tensors, stacked, prefix + "experts.down_proj", count, width, inner);
    return taken;
  }
  for (std::size_t i = 0; i < count; ++i)
    taken.each.push_back(take_gated_mlp(tensors, prefix + "experts." + std::to_string(i) + ".", width, inner));
  return taken;
}

std::vector<gated_mlp> take_stacked_mlps(checkpoint& tensors, const std::string& gate_up, const std::string& down,
                                         std::size_t count, std::size_t width, std::size_t inner) {
  const parameter* const in = tensors.take_stack(gate_up, count, 2 * inner, width, {{"gate", 0, inner}, {"up", inner, inner}});
  const parameter* const out = tensors.take_stack(down, count, width, inner);
  std::vector<gated_mlp> all(count);
  for (std::size_t i = 0; i < count; ++i) {
    all[i].gate_proj = {in, nullptr, 2 * i * inner, inner};
    all[i].up_proj = {in, nullptr, (2 * i + 1) * inner, inner};
    all[i].down_proj = {out, nullptr, i * width, width};
  }
  return all;
}

}  // namespace programs
