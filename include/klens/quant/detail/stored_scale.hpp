#pragma once

#include <cstddef>
#include <cstring>
#include <klens/matrix.hpp>
#include <klens/quant/grid.hpp>

namespace klens::detail {

[[nodiscard]] constexpr std::size_t scale_size(scale_kind scale) noexcept { return scale == scale_kind::f16 ? 2 : 4; }

/// A scale as it is stored, and back. The sizes are constants: one copy of scale_size() bytes would be a loop for each group.
inline void store_scale(float scale, scale_kind kind, std::byte* to) noexcept {
  if (kind == scale_kind::f32) {
    std::memcpy(to, &scale, sizeof scale);
  } else {
    const auto in_fp16 = static_cast<half>(scale);
    std::memcpy(to, &in_fp16, sizeof in_fp16);
  }
}
[[nodiscard]] inline float load_scale(scale_kind kind, const std::byte* from) noexcept {
  if (kind == scale_kind::f32) {
    float scale = 0;
    std::memcpy(&scale, from, sizeof scale);
    return scale;
  }
  half in_fp16;
  std::memcpy(&in_fp16, from, sizeof in_fp16);
  return static_cast<float>(in_fp16);
}

}  // namespace klens::detail
