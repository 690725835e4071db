#pragma once

#include <concepts>
#include <klens/matrix.hpp>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The row as floats: itself, or converted into `buffer`. (A template of the buffer's `Float` too: so Eigen's types are
/// compiled only where something is converted.)
template <class Scalar, std::same_as<float> Float>
[[nodiscard]] std::span<const Float> as_floats(std::span<const Scalar> row, std::vector<Float>& buffer) {
  static_assert(std::same_as<Scalar, float> || std::same_as<Scalar, half> || std::same_as<Scalar, bfloat16>,
                "klens: logits and weights are float, klens::half or klens::bfloat16; of doubles and integers klens would keep "
                "24 bits in silence: where that is enough, give them as .cast<float>()");
  if constexpr (std::same_as<Scalar, Float>) {
    return row;
  } else {
    buffer.resize(row.size());
    const auto size = static_cast<Eigen::Index>(row.size());
    Eigen::Map<Eigen::Array<Float, Eigen::Dynamic, 1>>(buffer.data(), size) =
        Eigen::Map<const Eigen::Array<Scalar, Eigen::Dynamic, 1>>(row.data(), size).template cast<Float>();
    return buffer;
  }
}

}  // namespace klens::detail
