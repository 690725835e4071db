#include "stored_form.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/quant/packing.hpp>
#include <klens/quant/scheme.hpp>
#include <openvino/opsets/opset13.hpp>
#include <span>
#include <vector>

namespace openvino_adapter {
namespace {

namespace op = ov::opset13;
using bytes = std::span<const std::byte>;

template <class Op, class... Arguments>
[[nodiscard]] ov::Output<ov::Node> named(const std::string& name, Arguments&&... arguments) {
  auto made = std::make_shared<Op>(std::forward<Arguments>(arguments)...);
  made->set_friendly_name(name);
  return made;
}

// A dense tensor that is filled row by row. Rows of klens are padded to whole bytes, tensors are not.
class dense_tensor {
 public:
  dense_tensor(const ov::element::Type& type, const ov::Shape& shape) : tensor_{type, shape}, bits_{type.bitwidth()} {}

  void append(bytes row, std::size_t count) {
    auto* const to = static_cast<std::uint8_t*>(tensor_.data());
    if (filled_ * bits_ % 8 == 0) {
      std::memcpy(to + filled_ * bits_ / 8, row.data(), row.size());
    } else {  // after an odd number of 4-bit codes; the padding behind them was 0
      for (std::size_t i = 0; i < count; ++i) {
        const unsigned code = std::to_integer<unsigned>(row[i / 2]) >> 4 * (i % 2) & 15u;
        std::uint8_t& both = to[(filled_ + i) / 2];
        both = static_cast<std::uint8_t>((filled_ + i) % 2 ? both | code << 4 : code);
      }
    }
    filled_ += count;
  }

  [[nodiscard]] ov::Output<ov::Node> constant(const std::string& name) const { return named<op::Constant>(name, tensor_); }

 private:
  ov::Tensor tensor_;
  std::size_t bits_, filled_ = 0;
};

[[nodiscard]] std::vector<std::byte> packed_row(const klens::packer& packer, klens::const_matrix_ref<float> weights,
                                                Eigen::Index row) {
  std::vector<std::byte> packed(packer.bytes(static_cast<std::size_t>(weights.cols())));
  packer.pack(klens::row(weights, row), packed);
  return packed;
}

[[nodiscard]] ov::Output<ov::Node> integers(const std::string& name, klens::const_matrix_ref<float> weights,
                                            const std::string& scheme) {
  const klens::scheme_parts form = *klens::parse_integer(scheme);
  const auto out = static_cast<std::size_t>(weights.rows()), in = static_cast<std::size_t>(weights.cols());
  const std::size_t groups = form.group_size == 0 ? 1 : in / form.group_size;
  const bool asym = form.grid == klens::grid::asym;
  const ov::element::Type type =
      form.bits == 4 ? (asym ? ov::element::u4 : ov::element::i4) : (asym ? ov::element::u8 : ov::element::i8);
  const ov::Shape per_group = groups == 1 ? ov::Shape{out, 1} : ov::Shape{out, groups, 1};
  dense_tensor codes{type, groups == 1 ? ov::Shape{out, in} : ov::Shape{out, groups, in / groups}};
  dense_tensor scales{ov::element::f16, per_group}, zero_points{type, per_group};
  const klens::packer packing{klens::scheme{scheme}};
  const std::size_t code_bytes = (in * static_cast<std::size_t>(form.bits) + 7) / 8, scale_bytes = 2 * groups;
  for (Eigen::Index r = 0; r < weights.rows(); ++r) {
    const std::vector<std::byte> packed = packed_row(packing, weights, r);
    codes.append(bytes{packed}.first(code_bytes), in);
    scales.append(bytes{packed}.subspan(code_bytes, scale_bytes), groups);
    if (asym) zero_points.append(bytes{packed}.subspan(code_bytes + scale_bytes), groups);
  }
  ov::Output<ov::Node> value = named<op::Convert>(name + "/codes", codes.constant(name), ov::element::f16);
  if (asym)
    value =
        named<op::Subtract>(name + "/centred", value,
                            named<op::Convert>(name + "/zero", zero_points.constant(name + "/zero_point"), ov::element::f16));
  value = named<op::Multiply>(name + "/scaled", value, scales.constant(name + "/scale"));
  if (groups > 1)
    value = named<op::Reshape>(name + "/rows", value, op::Constant::create(ov::element::i64, {2}, {out, in}), false);
  return named<op::Convert>(name + "/floats", value, ov::element::f32);
}

}  // namespace

std::string storage_problem(const klens::stored_layer& layer) {
  if (klens::is_float(layer.scheme)) return {};
  const std::optional<klens::scheme_parts> form = klens::parse_integer(layer.scheme);
  if (!form || (form->bits != 4 && form->bits != 8)) return "its kernels read int4, int8, fp16, bf16 and f32";
  if (form->scale == klens::scale_kind::f32) return "its scales are fp16; leave -f32 away";
  if (form->group_size != 0 && layer.columns % form->group_size != 0)
    return "the groups do not divide its " + std::to_string(layer.columns) + " columns";
  return {};
}

ov::Output<ov::Node> stored_form(const std::string& name, klens::const_matrix_ref<float> weights, const std::string& scheme) {
  if (!klens::is_half(scheme)) return integers(name, weights, scheme);
  const auto in = static_cast<std::size_t>(weights.cols());
  dense_tensor halves{scheme == "fp16" ? ov::element::f16 : ov::element::bf16, {static_cast<std::size_t>(weights.rows()), in}};
  const klens::packer packing{klens::scheme{scheme}};
  for (Eigen::Index r = 0; r < weights.rows(); ++r) halves.append(packed_row(packing, weights, r), in);
  return named<op::Convert>(name, halves.constant(name + "_compressed"), ov::element::f32);
}

}  // namespace openvino_adapter
