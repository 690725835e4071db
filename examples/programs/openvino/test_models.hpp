#pragma once
// Models of a few weights, and what tests of them share.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <klens/plan/plan.hpp>
#include <klens/quant/scheme.hpp>
#include <memory>
#include <openvino/opsets/opset13.hpp>
#include <span>
#include <string>
#include <vector>

namespace openvino_adapter {

namespace op = ov::opset13;
using node = ov::Output<ov::Node>;

// The weight from input `in` to output `out`, in every matrix.
inline float weight_at(std::size_t out, std::size_t in) { return std::sin(0.7f * static_cast<float>(7 * out + in)); }

inline node constant(const ov::element::Type& type, std::size_t rows, std::size_t columns, const std::string& name,
                     bool stored_as_in_out = false) {
  std::vector<float> values;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) values.push_back(stored_as_in_out ? weight_at(c, r) : weight_at(r, c));
  auto made = std::make_shared<op::Constant>(type, ov::Shape{rows, columns}, values);
  made->set_friendly_name(name);
  return made;
}

inline node converted(const node& from, const std::string& name) {
  auto made = std::make_shared<op::Convert>(from, ov::element::f32);
  made->set_friendly_name(name);
  return made;
}

inline std::shared_ptr<op::Parameter> token_ids(const ov::PartialShape& shape = {-1, -1}) {
  auto made = std::make_shared<op::Parameter>(ov::element::i64, shape);
  made->set_friendly_name("ids");
  return made;
}

inline node looked_up(const node& table, const node& ids) {
  return std::make_shared<op::Gather>(table, ids, op::Constant::create(ov::element::i32, {}, {0}));
}
inline node product(const node& x, const node& weights, bool transposed) {
  return std::make_shared<op::MatMul>(x, weights, false, transposed);
}

// Vocabulary 5, width 6: a matrix [3 x 6] that is stored as [in x out], one [6 x 3], and a tied head; two of them in f16 behind
// conversions.
inline std::shared_ptr<ov::Model> tied_model() {
  const auto ids = token_ids();
  const node table = converted(constant(ov::element::f16, 5, 6, "table_compressed"), "m.table.weight");
  const node up = converted(constant(ov::element::f16, 6, 3, "up_compressed", true), "m.up.weight");
  const node down = constant(ov::element::f32, 6, 3, "m.down.weight");
  const node hidden = product(product(looked_up(table, ids), up, false), down, true);
  return std::make_shared<ov::Model>(ov::OutputVector{product(hidden, table, true)}, ov::ParameterVector{ids});
}

inline bool same_bits(const klens::matrix<float>& a, const klens::matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

inline std::vector<std::int32_t> ten_tokens() {
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < 10; ++i) tokens.push_back(i * i % 5);
  return tokens;
}

// The schemes in turn, one layer after the other.
inline klens::plan plan_of(std::span<const klens::layer> layers, const std::vector<std::string>& schemes) {
  klens::plan plan;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    plan.layers.push_back({layers[i].name, schemes[i % schemes.size()]});
    plan.bytes += klens::scheme{plan.layers.back().scheme}.bytes(layers[i].rows(), layers[i].columns());
  }
  return plan;
}

// What klens takes a plan to do.
inline void simulate(std::span<klens::layer> layers, const klens::plan& plan) {
  for (klens::layer& each : layers) {
    const std::string* scheme = plan.scheme_of(each.name);
    if (!scheme) continue;
    klens::matrix<float> weights = each.load();
    for (Eigen::Index r = 0; r < weights.rows(); ++r)
      klens::scheme{*scheme}.round_trip(klens::row(weights, r), klens::row(weights, r));
    each.store(weights);
  }
}

}  // namespace openvino_adapter
