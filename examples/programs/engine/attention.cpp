#include "attention.hpp"

#include <algorithm>
#include <cmath>

#include "engine/elementwise.hpp"
#include "engine/past.hpp"
#include "engine/rounding.hpp"

#include "products.hpp"

namespace programs {
namespace {

// Queries are taken in slices of so many positions: keys that no query of the slice may see are left out.
constexpr std::size_t slice = 64;

/// The first key that one of the queries from `first` on sees, unless some keys are always seen.
std::size_t first_key(std::size_t first, const attention_mask& mask) {
  return mask.window == 0 || mask.always > 0 || first < mask.window ? 0 : first + 1 - mask.window;
}

/// Turns the scores of one query into weights that are yet to be divided by their sum, which is returned. The first score is
/// that of key `begin`; keys that the query does not see get 0.
float weigh(std::span<float> scores, std::size_t query, std::size_t begin, float scale, const attention_mask& mask) {
  const std::size_t end = query + 1 - begin;
  const std::size_t from = mask.window == 0 || query < mask.window ? begin : query + 1 - mask.window;
  const std::size_t seen = from - begin, always = std::min(mask.always, seen);
  // the first ones move beside the window for the time of the softmax
  std::copy_backward(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(always),
                     scores.begin() + static_cast<std::ptrdiff_t>(seen));
  const float total = kernels::exponentials(scores.subspan(seen - always, end - (seen - always)), scale);
  std::copy_n(scores.begin() + static_cast<std::ptrdiff_t>(seen - always), always, scores.begin());
  std::ranges::fill(scores.subspan(always, seen - always), 0.f);
  std::ranges::fill(scores.subspan(end), 0.f);
  return total;
}

}  // namespace

void attend(const klens::const_matrix_ref<float>& q, const klens::const_matrix_ref<float>& k,
            const klens::const_matrix_ref<float>& v, std::size_t heads, std::size_t kv_heads, float scale,
            const attention_mask& mask, klens::matrix_ref<float> out, workspace& work) {
  const auto length = static_cast<std::size_t>(q.rows()), before = static_cast<std::size_t>(k.rows()) - length;
  const Eigen::Index key_width = q.cols() / static_cast<Eigen::Index>(heads),
                     value_width = out.cols() / static_cast<Eigen::Index>(heads);
  for (std::size_t head = 0; head < heads; ++head) {
    const auto own = static_cast<Eigen::Index>(head), shared = static_cast<Eigen::Index>(head / (heads / kv_heads));
    for (std::size_t first = 0; first < length; first += slice) {
      const std::size_t count = std::min(slice, length - first), position = before + first;
      const std::size_t begin = first_key(position, mask), keys = position + count - begin;
      const auto rows = static_cast<Eigen::Index>(count), top = static_cast<Eigen::Index>(first);
      const auto columns = static_cast<Eigen::Index>(keys), from = static_cast<Eigen::Index>(begin);
      const workspace::frame inner_frame{work};
      panel scores = work.take(rows, columns), totals = work.take(1, rows);
      multiply_transposed(q.block(top, own * key_width, rows, key_width), k.block(from, shared * key_width, columns, key_width),
                          scores);
      for (Eigen::Index r = 0; r < rows; ++r)
        totals(0, r) = weigh(klens::row(scores, r), position + static_cast<std::size_t>(r), begin, scale, mask);
      auto result = out.block(top, own * value_width, rows, value_width);
      multiply(scores, v.block(from, shared * value_width, columns, value_width), result);
      for (Eigen::Index r = 0; r < rows; ++r) result.row(r) *= 1 / totals(0, r);
    }
  }
}

void attend_to_kept(const klens::const_matrix_ref<float>& q, panel& k, panel& v, std::size_t heads, std::size_t kv_heads,
                    float scale, const attention_mask& mask, klens::matrix_ref<float> out, const pass& at, const void* part) {
  const auto stored = [&](int number, panel& own) {
    const rounding* const how = rounding_of(at, part, number);
    const bool by_channel = how != nullptr && how->by_channel != 0;
    if (how != nullptr && !by_channel) how->apply(all_of(own));
    return std::pair{with_past(at, part, number, own), by_channel ? how : nullptr};
  };
  auto [keys, keys_by_channel] = stored(kept_as::keys, k);
  auto [values, values_by_channel] = stored(kept_as::values, v);
  const Eigen::Index before = keys.rows() - q.rows();
  for (Eigen::Index first = before, end; first < keys.rows(); first = end) {
    end = keys.rows();
    for (const rounding* const how : {keys_by_channel, values_by_channel})
      if (how != nullptr) end = std::min(end, first - first % how->group() + how->group());
    attend(q.middleRows(first - before, end - first), keys.topRows(end), values.topRows(end), heads, kv_heads, scale, mask,
           out.middleRows(first - before, end - first), at.work);
    if (keys_by_channel) keys_by_channel->close_group(keys.topRows(end));
    if (values_by_channel) values_by_channel->close_group(values.topRows(end));
  }
}

double attend_flops(std::size_t length, std::size_t key_columns, std::size_t value_columns, const attention_mask& mask) {
  double products = 0;
  for (std::size_t first = 0; first < length; first += slice) {
    const std::size_t count = std::min(slice, length - first);
    products += 2.0 * static_cast<double>(count * (first + count - first_key(first, mask)));
  }
  return products * static_cast<double>(key_columns + value_columns);
}

void attention::add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale, pass& at) const {
  workspace& work = at.work;
  const workspace::frame frame{work};
  const Eigen::Index length = x.rows();
  panel q = work.take(length, o_proj.in()), k = work.take(length, k_proj.out());
  panel v = work.take(length, v_proj.out()), mixed = work.take(length, q.cols());
  panel gate = work.take(gated ? length : 0, q.cols());
  if (gated) {
    const workspace::frame inner_frame{work};
    panel both = work.take(length, q_proj.out());
    q_proj(x, both);
    const Eigen::Index width = q.cols() / static_cast<Eigen::Index>(heads);
    for (Eigen::Index head = 0; head < static_cast<Eigen::Index>(heads); ++head) {
      q.middleCols(head * width, width) = both.middleCols(2 * head * width, width);
      gate.middleCols(head * width, width) = both.middleCols((2 * head + 1) * width, width);
    }
  } else {
    q_proj(x, q);
  }
  k_proj(x, k);
  v_proj(x, v);
  if (key_scale != 1) k *= key_scale;
  if (q_norm) q_norm.of_heads(q);
  if (k_norm) k_norm.of_heads(k);
  if (position) {
    const std::size_t first = first_position(at, this, kept_as::keys, k);
    position->apply(q, first);
    position->apply(k, first);
  }
  attend_to_kept(q, k, v, heads, kv_heads, score_scale, mask, mixed, at, this);
  if (gated)
    kernels::map_elements(
        all_of(mixed), [](auto y, auto g) { return y * kernels::sigmoid(g); }, all_of(mixed), all_of(gate));
  o_proj.add_to(hidden, mixed, scale);
}

void add_keys_and_values(std::vector<kept_vectors>& all, const void* part, const std::string& prefix, std::size_t kv_heads,
                         std::size_t key_columns, std::size_t value_columns, const attention_mask& mask) {
  const std::size_t positions = mask.window == 0 ? 0 : mask.window + mask.always;
  all.push_back({prefix + "keys", klens::site_kind::kv, part, kept_as::keys, kv_heads, key_columns / kv_heads, positions});
  all.push_back(
      {prefix + "values", klens::site_kind::kv, part, kept_as::values, kv_heads, value_columns / kv_heads, positions});
}

std::vector<kept_vectors> attention::kept() const {
  std::vector<kept_vectors> all;
  add_keys_and_values(all, this, prefix_of(k_proj.weight->name, "k_proj"), kv_heads, static_cast<std::size_t>(k_proj.out()),
                      static_cast<std::size_t>(v_proj.out()), mask);
  return all;
}

double attention::flops(std::size_t length) const {
  const auto columns = static_cast<std::size_t>(o_proj.in());
  return q_proj.flops(length) + k_proj.flops(length) + v_proj.flops(length) + o_proj.flops(length) +
         attend_flops(length, columns, columns, mask);
}

attention take_attention(checkpoint& tensors, const std::string& prefix, const attention_shape& shape,
                         const std::string& output) {
  attention taken;
  const std::size_t queries = shape.heads * shape.head_width, keys = shape.kv_heads * shape.head_width;
  std::vector<row_range> parts;
  for (std::size_t head = 0; shape.gated && head < shape.heads; ++head) {
    parts.push_back({"q" + std::to_string(head), 2 * head * shape.head_width, shape.head_width});
    parts.push_back({"gate" + std::to_string(head), (2 * head + 1) * shape.head_width, shape.head_width});
  }
  taken.q_proj = take_linear(tensors, prefix + "q_proj", shape.gated ? 2 * queries : queries, shape.width, shape.bias, parts);
  taken.k_proj = take_linear(tensors, prefix + "k_proj", keys, shape.width, shape.bias);
  taken.v_proj = take_linear(tensors, prefix + "v_proj", keys, shape.width, shape.bias);
  taken.o_proj =
      take_linear(tensors, prefix + output, shape.output_width ? shape.output_width : shape.width, queries, shape.output_bias);
  taken.heads = shape.heads;
  taken.kv_heads = shape.kv_heads;
  taken.gated = shape.gated;
  taken.score_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_width)));
  return taken;
}

}  // namespace programs
