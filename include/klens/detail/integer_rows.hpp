#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/detail/bit_packing.hpp>
#include <klens/detail/integer_codec.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/grid.hpp>
#include <span>

namespace klens::detail {

[[nodiscard]] constexpr std::size_t scale_size(scale_kind scale) noexcept { return scale == scale_kind::f16 ? 2 : 4; }

/// Stored rows of klens::integer. They know the number of bits at run time only: one piece of code serves all.
template <class Arch, grid Grid>
[[gnu::flatten]] void pack_groups(const integer_codec<Grid>& codec, std::size_t group_size, std::span<const float> weights,
                                  std::byte* packed) {
  const std::size_t groups = weights.empty() ? 0 : (weights.size() - 1) / group_size + 1;
  code_writer codes{packed, codec.bits};
  std::byte* scales = packed + stream_bytes(weights.size(), codec.bits);
  code_writer zero_points{scales + groups * scale_size(codec.stored_as), codec.bits};
  for_coded_groups<Arch>(codec, group_size, weights, [&](std::size_t, auto group, const group_levels& levels, bool) {
    write_codes<Arch>(codec, levels, group, codes);
    if constexpr (Grid == grid::asym) *zero_points.append(1) = static_cast<std::int32_t>(levels.zero);
    const auto in_fp16 = static_cast<half>(levels.scale);
    const void* stored = codec.stored_as == scale_kind::f16 ? static_cast<const void*>(&in_fp16) : &levels.scale;
    std::memcpy(scales, stored, scale_size(codec.stored_as));
    scales += scale_size(codec.stored_as);
  });
  codes.finish();
  zero_points.finish();
}

template <class Arch, grid Grid>
[[gnu::flatten]] void unpack_groups(const integer_codec<Grid>& codec, std::size_t group_size, const std::byte* packed,
                                    std::span<float> kept) {
  const std::size_t groups = kept.empty() ? 0 : (kept.size() - 1) / group_size + 1;
  code_reader codes{packed, kept.size(), codec.bits};
  const std::byte* scales = packed + stream_bytes(kept.size(), codec.bits);
  code_reader zero_points{scales + groups * scale_size(codec.stored_as), groups, codec.bits};
  for (std::size_t first = 0; first < kept.size(); first += group_size) {
    group_levels levels;
    half in_fp16;
    std::memcpy(codec.stored_as == scale_kind::f16 ? static_cast<void*>(&in_fp16) : &levels.scale, scales,
                scale_size(codec.stored_as));
    if (codec.stored_as == scale_kind::f16) levels.scale = static_cast<float>(in_fp16);
    scales += scale_size(codec.stored_as);
    if constexpr (Grid == grid::asym) levels.zero = static_cast<float>(*zero_points.take(1));
    read_codes<Arch>(codec, levels, codes, kept.subspan(first, std::min(group_size, kept.size() - first)));
  }
}

}  // namespace klens::detail
