#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/quant/detail/bit_packing.hpp>
#include <klens/quant/detail/integer_codec.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/detail/stored_scale.hpp>
#include <klens/quant/grid.hpp>
#include <klens/quant/quantizer.hpp>
#include <numeric>
#include <span>
#include <string>

namespace klens::detail {

/// Stored rows of klens::integer. They know the number of bits at run time only: one piece of code serves all.
template <class Arch, grid Grid>
[[gnu::flatten]] void pack_groups(const integer_codec<Grid>& codec, std::size_t group_size, std::span<const float> weights,
                                  std::byte* packed) {
  const std::size_t groups = weights.empty() ? 0 : (weights.size() - 1) / group_size + 1;
  const scale_kind kind = codec.stored_as;
  code_writer codes{packed, codec.bits};
  std::byte* scales = packed + stream_bytes(weights.size(), codec.bits);
  code_writer zero_points{scales + groups * scale_size(kind), codec.bits};
  for_coded_groups<Arch>(codec, group_size, weights, [&](std::size_t, auto group, const group_levels& levels, bool) {
    write_codes<Arch>(codec, levels, group, codes);
    if constexpr (Grid == grid::asym) *zero_points.append(1) = static_cast<std::uint8_t>(levels.zero);
    store_scale(levels.scale, kind, scales);
    scales += scale_size(kind);
  });
  codes.finish();
  zero_points.finish();
}

template <class Arch, grid Grid>
[[gnu::flatten]] void unpack_groups(const integer_codec<Grid>& codec, std::size_t group_size, const std::byte* packed,
                                    std::span<float> kept, bool streaming) {
  streaming = streaming && can_stream<Arch>(kept.data(), std::gcd(group_size, kept.size()));
  const std::size_t groups = kept.empty() ? 0 : (kept.size() - 1) / group_size + 1;
  const scale_kind kind = codec.stored_as;
  code_reader codes{packed, kept.size(), codec.bits};
  const std::byte* scales = packed + stream_bytes(kept.size(), codec.bits);
  code_reader zero_points{scales + groups * scale_size(kind), groups, codec.bits};
  for_groups(kept, group_size, [&](std::size_t, auto group) {
    group_levels levels{.scale = load_scale(kind, scales)};
    scales += scale_size(kind);
    if constexpr (Grid == grid::asym) levels.zero = static_cast<float>(*zero_points.take(1));
    read_codes<Arch>(codec, levels, codes, group, streaming);
  });
}

/// klens::integer with the number of bits as a run-time value, for schemes that are known by their name.
template <grid Grid>
struct integer_rows {
  int bits;
  std::size_t group_size;
  scale_kind scale;

  [[nodiscard]] std::string name() const { return codec().name(); }

  [[nodiscard]] std::size_t bytes(std::size_t columns) const noexcept {
    const std::size_t groups = columns == 0 ? 0 : (columns - 1) / group_of(columns) + 1, b = static_cast<std::size_t>(bits);
    return stream_bytes(columns, b) + groups * scale_size(scale) + (Grid == grid::asym ? stream_bytes(groups, b) : 0);
  }

  template <class Arch = best_arch>
  weight_error round_trip(std::span<const float> weights, std::span<float> kept, bool streaming = false) const {
    expect_length(*this, "kept", kept.size(), weights.size());
    return round_trip_groups<Arch>(codec(), group_of(weights.size()), weights, kept, streaming);
  }
  template <class Arch = best_arch>
  void pack(std::span<const float> weights, std::span<std::byte> packed) const {
    expect_length(*this, "packed", packed.size(), bytes(weights.size()));
    pack_groups<Arch>(codec(), group_of(weights.size()), weights, packed.data());
  }
  template <class Arch = best_arch>
  void unpack(std::span<const std::byte> packed, std::span<float> kept, bool streaming = false) const {
    expect_length(*this, "packed", packed.size(), bytes(kept.size()));
    unpack_groups<Arch>(codec(), group_of(kept.size()), packed.data(), kept, streaming);
  }

 private:
  [[nodiscard]] std::size_t group_of(std::size_t columns) const noexcept { return group_size == 0 ? columns : group_size; }
  [[nodiscard]] integer_codec<Grid> codec() const noexcept { return {bits, group_size, scale}; }
};

}  // namespace klens::detail
