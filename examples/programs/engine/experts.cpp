#include "experts.hpp"

#include <algorithm>
#include <numeric>
#include "engine/elementwise.hpp"

namespace programs {

void experts::add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale,
                     workspace& work) const {
  const workspace::frame frame{work};
  panel weights = work.take(x.rows(), static_cast<Eigen::Index>(each.size()));
  router(x, weights);
  std::vector<std::vector<Eigen::Index>> positions(each.size());  // that an expert works on
  std::vector<std::size_t> order(each.size());
  for (Eigen::Index t = 0; t < x.rows(); ++t) {
    const std::span<float> likely = klens::row(weights, t);
    const float total = klens::detail::exponentials(likely, 1);
    for (float& weight : likely) weight /= total;
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return likely[a] > likely[b]; });
    for (const std::size_t chosen : std::span(order).first(active)) positions[chosen].push_back(t);
  }
  for (std::size_t i = 0; i < each.size(); ++i) {
    if (positions[i].empty()) continue;
    const workspace::frame inner_frame{work};
    const auto count = static_cast<Eigen::Index>(positions[i].size());
    panel some = work.take(count, x.cols()), result = work.take(count, x.cols());
    for (Eigen::Index r = 0; r < count; ++r) some.row(r) = x.row(positions[i][static_cast<std::size_t>(r)]);
    result.setZero();
    each[i].add_to(result, some, scale, work);
    for (Eigen::Index r = 0; r < count; ++r) {
      const Eigen::Index t = positions[i][static_cast<std::size_t>(r)];
      klens::detail::map_elements(
          klens::row(hidden, t), [w = weights(t, static_cast<Eigen::Index>(i))](auto sum, auto y) { return sum + y * w; },
          klens::row(hidden, t), klens::row(result, r));
    }
  }
}

double experts::flops(std::size_t length) const {
  return router.flops(length) + static_cast<double>(active) * each.front().flops(length);
}

experts take_experts(checkpoint& tensors, const std::string& prefix, std::size_t count, std::size_t active, std::size_t width,
                     std::size_t inner) {
  experts taken;
  taken.router = take_linear(tensors, prefix + "router", count, width, false);
  for (std::size_t i = 0; i < count; ++i)
    taken.each.push_back(take_gated_mlp(tensors, prefix + "experts." + std::to_string(i) + ".", width, inner));
  taken.active = active;
  return taken;
}

}  // namespace programs
