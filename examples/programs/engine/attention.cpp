#include "attention.hpp"

#include <algorithm>
#include <cmath>

#include "engine/elementwise.hpp"

#include "products.hpp"

namespace programs {
namespace {

// Queries are taken in slices of so many positions: keys that no query of the slice may see are left out.
constexpr Eigen::Index slice = 64;

}  // namespace

void attention::add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale,
                       workspace& work) const {
  const workspace::frame frame{work};
  const Eigen::Index length = x.rows(), head_width = q_proj.weight->values.rows() / static_cast<Eigen::Index>(heads);
  const auto queries_per_key = static_cast<Eigen::Index>(heads / kv_heads);
  panel q = work.take(length, q_proj.weight->values.rows()), k = work.take(length, k_proj.weight->values.rows());
  panel v = work.take(length, v_proj.weight->values.rows()), mixed = work.take(length, q.cols());
  q_proj(x, q);
  k_proj(x, k);
  v_proj(x, v);
  if (key_scale != 1) k *= key_scale;
  if (position) {
    position->apply(q);
    position->apply(k);
  }
  for (Eigen::Index head = 0; head < static_cast<Eigen::Index>(heads); ++head) {
    const Eigen::Index shared = head / queries_per_key * head_width;
    for (Eigen::Index first = 0; first < length; first += slice) {
      const Eigen::Index count = std::min(slice, length - first), keys = first + count;
      const workspace::frame inner_frame{work};
      panel scores = work.take(count, keys), totals = work.take(1, count);
      multiply_transposed(q.block(first, head * head_width, count, head_width), k.block(0, shared, keys, head_width), scores);
      auto result = mixed.block(first, head * head_width, count, head_width);
      for (Eigen::Index r = 0; r < count; ++r) {
        const std::span<float> all = klens::row(scores, r);
        const auto visible = static_cast<std::size_t>(first + r + 1);
        totals(0, r) = klens::detail::exponentials(all.first(visible), score_scale);
        std::ranges::fill(all.subspan(visible), 0.f);
      }
      multiply(scores, v.block(0, shared, keys, head_width), result);
      for (Eigen::Index r = 0; r < count; ++r) result.row(r) *= 1 / totals(0, r);
    }
  }
  o_proj.add_to(hidden, mixed, scale);
}

double attention::flops(std::size_t length) const {
  double products = 0;
  for (std::size_t first = 0; first < length; first += slice) {
    const std::size_t count = std::min<std::size_t>(slice, length - first);
    products += 4.0 * static_cast<double>(count * (first + count)) * static_cast<double>(q_proj.weight->values.rows());
  }
  return q_proj.flops(length) + k_proj.flops(length) + v_proj.flops(length) + o_proj.flops(length) + products;
}

attention take_attention(checkpoint& tensors, const std::string& prefix, const attention_shape& shape) {
  attention taken;
  const std::size_t queries = shape.heads * shape.head_width, keys = shape.kv_heads * shape.head_width;
  taken.q_proj = take_linear(tensors, prefix + "q_proj", queries, shape.width, shape.bias);
  taken.k_proj = take_linear(tensors, prefix + "k_proj", keys, shape.width, shape.bias);
  taken.v_proj = take_linear(tensors, prefix + "v_proj", keys, shape.width, shape.bias);
  taken.o_proj = take_linear(tensors, prefix + "o_proj", shape.width, queries, shape.bias);
  taken.heads = shape.heads;
  taken.kv_heads = shape.kv_heads;
  taken.score_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_width)));
  return taken;
}

}  // namespace programs
