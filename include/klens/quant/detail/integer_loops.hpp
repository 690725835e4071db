#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/quant/detail/bit_packing.hpp>
#include <klens/quant/detail/code_streams.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/integer_codec.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A stored row: codes, scales, and for asym zero points.
template <class Arch>
struct row_loops<Arch, integer_rows> {
  [[nodiscard]] static unstorable round_trip(const integer_rows& rows, std::span<const float> weights, std::span<float> kept,
                                             weight_error& error) noexcept {
    return round_trip_groups<Arch>(integer_codec<Arch>{rows}, group_of(rows, weights.size()), weights, kept, error);
  }

  [[nodiscard, gnu::flatten]] static unstorable pack(const integer_rows& rows, std::span<const float> weights,
                                                     std::byte* packed) noexcept {
    code_writer codes{packed, rows.bits};
    std::byte* scales = packed + stream_bytes(weights.size(), static_cast<std::size_t>(rows.bits));
    code_writer zero_points{scales + rows.groups(weights.size()) * scale_size(rows.scale), rows.bits};
    const integer_codec<Arch> codec{rows};
    const unstorable problem = for_coded_groups<Arch>(codec, group_of(rows, weights.size()), weights,
                                                      [&](std::size_t, auto group, const group_levels& levels, bool) {
                                                        write_codes<Arch>(codec, levels, group, codes);
                                                        if (rows.is_asym())
                                                          *zero_points.append(1) = static_cast<std::uint8_t>(levels.zero);
                                                        store_scale(levels.scale, rows.scale, scales);
                                                        scales += scale_size(rows.scale);
                                                      });
    codes.finish();
    zero_points.finish();
    return problem;
  }

  [[gnu::flatten]] static void unpack(const integer_rows& rows, const std::byte* packed, std::span<float> kept) noexcept {
    code_reader codes{packed, kept.size(), rows.bits};
    const std::size_t groups = rows.groups(kept.size());
    const std::byte* scales = packed + stream_bytes(kept.size(), static_cast<std::size_t>(rows.bits));
    code_reader zero_points{scales + groups * scale_size(rows.scale), groups, rows.bits};
    const integer_codec<Arch> codec{rows};
    for_groups(kept, group_of(rows, kept.size()), [&](std::size_t, auto group) {
      group_levels levels{.scale = load_scale(rows.scale, scales)};
      scales += scale_size(rows.scale);
      if (rows.is_asym()) levels.zero = static_cast<float>(*zero_points.take(1));
      read_codes<Arch>(codec, levels, codes, group);
    });
  }

 private:
  [[nodiscard]] static std::size_t group_of(const integer_rows& rows, std::size_t columns) noexcept {
    return std::min(rows.group_of(columns), columns);
  }
};

}  // namespace klens::detail
