#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/quant/detail/bit_packing.hpp>
#include <klens/quant/detail/code_streams.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/quantizer.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The loops of rows that are a stream of codes and then a scale for each group. Beside what group_rows.hpp and code_streams.hpp
/// ask for, a codec has
///   a base in value_codes.hpp   which says how codes and values go together
///   bits, scale_bytes           of a code and of a stored scale
///   usual_group                 a size of groups to compile loops for, or 0
///   store(levels, to)           writes the scale
///   load(from)                  gives levels with which decode() gives the kept values
/// and its rows have group_of(columns). One that needs to know of the whole row also has
///   measure_row(weights)        called first of all
///   store_row(to), load_row(from)
///                               what it found out, which stands behind the scales
template <class Arch, class Rows, class Codec>
struct coded_loops {
  [[nodiscard]] static unstorable round_trip(const Rows& rows, std::span<const float> weights, std::span<float> kept,
                                             weight_error& error) noexcept {
    return round_trip_groups<Arch>(codec_for(rows, weights), group_of(rows, weights.size()), weights, kept, error);
  }

  [[nodiscard, gnu::flatten]] static unstorable pack(const Rows& rows, std::span<const float> weights,
                                                     std::byte* packed) noexcept {
    code_writer codes{packed, Codec::bits};
    std::byte* scales = packed + stream_bytes(weights.size(), Codec::bits);
    const Codec codec = codec_for(rows, weights);
    const unstorable problem = for_coded_groups<Arch>(codec, group_of(rows, weights.size()), weights,
                                                      [&](std::size_t, auto group, const group_levels& levels, bool) {
                                                        write_codes<Arch>(codec, levels, group, codes);
                                                        codec.store(levels, scales);
                                                        scales += Codec::scale_bytes;
                                                      });
    codes.finish();
    if constexpr (of_rows)
      if (!weights.empty()) codec.store_row(scales);
    return problem;
  }

  [[gnu::flatten]] static void unpack(const Rows& rows, const std::byte* packed, std::span<float> kept) noexcept {
    code_reader codes{packed, kept.size(), Codec::bits};
    const std::byte* scales = packed + stream_bytes(kept.size(), Codec::bits);
    Codec codec{{}, rows};
    if constexpr (of_rows)
      if (!kept.empty()) codec.load_row(scales + ((kept.size() - 1) / rows.group_of(kept.size()) + 1) * Codec::scale_bytes);
    for_groups(kept, group_of(rows, kept.size()), [&](std::size_t, auto group) {
      const group_levels levels = codec.load(scales);
      scales += Codec::scale_bytes;
      read_codes<Arch>(codec, levels, codes, group);
    });
  }

 private:
  static constexpr bool of_rows = requires(Codec codec, std::span<const float> weights) { codec.measure_row(weights); };

  [[nodiscard]] static Codec codec_for(const Rows& rows, [[maybe_unused]] std::span<const float> weights) noexcept {
    Codec codec{{}, rows};
    if constexpr (of_rows) codec.measure_row(weights);
    return codec;
  }
  [[nodiscard]] static mostly<Codec::usual_group> group_of(const Rows& rows, std::size_t columns) noexcept {
    return {std::min(rows.group_of(columns), columns)};
  }
};

}  // namespace klens::detail
