#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/detail/simd.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/scheme_parts.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A scale as it is stored, and back. Each size is a constant in its branch: a copy of run-time size
/// would be a call for each group.
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

/// The codes of one group to a stream, which gives room with append(count), and from a stream, which gives codes with
/// take(count). to_stored and from_stored are a codec's codes to and from the unsigned numbers that are stored.
template <class Arch, class Codec, class Weights, class Writer>
inline void write_codes(const Codec& codec, const group_levels& levels, Weights weights, Writer& stream) {
  for (std::size_t first = 0; first < weights.size(); first += 64) {
    const std::size_t count = std::min<std::size_t>(64, weights.size() - first);
    std::uint8_t* const codes = stream.append(count);
    for_blocks<Arch>(&weights[first], count, [&](std::size_t i, const auto& some, std::size_t) {
      for (std::size_t line = 0; line < sizeof some; line += 64) prefetch(&weights[first + i], far_ahead + line);
      const auto coded = codec.encode(some, levels);
      for (std::size_t k = 0; k < some.size(); ++k)
        store_bytes(codec.to_stored(coded[k], levels), codes + i + k * lanes<float, Arch>);
    });
  }
}
template <class Arch, class Codec, class Kept, class Reader>
inline void read_codes(const Codec& codec, const group_levels& levels, Reader& stream, Kept kept) {
  for (std::size_t first = 0; first < kept.size(); first += 64) {
    const std::size_t count = std::min<std::size_t>(64, kept.size() - first);
    const std::uint8_t* const codes = stream.take(count);
    for_vectors<Arch>(count, [&](std::size_t i, std::size_t some) {
      const auto values = codec.decode(codec.from_stored(load_bytes<Arch>(codes + i), levels), levels);
      store_first(values, &kept[first + i], some);
    });
  }
}

}  // namespace klens::detail
