#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/error_sums.hpp>
#include <klens/quant/detail/half_rounding.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <span>
#include <type_traits>

namespace klens::detail {

/// Calls body(first column, weights) for each group of a row; the last may be shorter. The usual short groups are spans of a
/// fixed length, which turns the loops over them into straight lines.
template <class Weight, class Body>
inline void for_groups(std::span<Weight> row, std::size_t group_size, const Body& body) {
  std::size_t first = 0;
  const auto those_of = [&]<std::size_t Size>(std::integral_constant<std::size_t, Size>) {
    if (group_size != Size) return;
    for (; first + Size <= row.size(); first += Size) body(first, std::span<Weight, Size>(row.data() + first, Size));
  };
  those_of(std::integral_constant<std::size_t, 32>{});
  those_of(std::integral_constant<std::size_t, 64>{});
  those_of(std::integral_constant<std::size_t, 128>{});
  for (; first < row.size(); first += group_size) body(first, row.subspan(first, std::min(group_size, row.size() - first)));
}

/// How far weights reach, lane by lane: the bits of the largest max(w, 0) and max(-w, 0); without Signs that of |w|, and 0. As
/// integers such bits keep the order of the numbers; infinities and NaNs come after.
template <class Arch>
struct extent {
  batch<std::int32_t, Arch> above = batch<std::int32_t, Arch>(0);
  batch<std::int32_t, Arch> below = batch<std::int32_t, Arch>(0);
};
template <class Arch, bool Signs, class Weights>
[[nodiscard]] inline extent<Arch> extent_of(Weights weights) noexcept {
  using integers = batch<std::int32_t, Arch>;
  extent<Arch> reach;
  for_vectors<Arch>(weights.size(), [&](std::size_t i, std::size_t count) {
    const auto bits = bits_of(load_first<Arch>(&weights[i], count));
    reach.above = xsimd::max(reach.above, Signs ? bits : bits & integers(magnitude_bits));
    if constexpr (Signs) reach.below = xsimd::max(reach.below, bits ^ integers(~magnitude_bits));
  });
  return reach;
}

/// What a group is stored with.
struct group_levels {
  float divisor = 1;  ///< the scale in float, which gives the codes; 1 where that is 0
  float inverse = 0;  ///< of the divisor, as far as a codec needs it
  float scale = 0;    ///< the scale as it is stored, which gives the kept values
  float zero = 0;     ///< the code that means 0
};

/// Groups of a row that are measured together: what is done once a group then costs a part of a vector, and nobody waits for
/// it.
struct group_tile {
  static constexpr std::size_t capacity = 64;
  static constexpr std::size_t columns = 4096;  // so that the weights are still in the first cache when they are coded

  alignas(64) std::int32_t above[capacity] = {};  // an extent each, of a codec without sign the magnitude
  alignas(64) std::int32_t below[capacity] = {};
  alignas(64) float divisor[capacity];  // group_levels
  alignas(64) float inverse[capacity];
  alignas(64) float scale[capacity];
  alignas(64) float zero[capacity];
  bool wide = false;  // see error_sums

  [[nodiscard]] group_levels levels(std::size_t g) const noexcept { return {divisor[g], inverse[g], scale[g], zero[g]}; }
};

/// Fills in above and below, for as many groups at a time as a vector has lanes. Returns the number of groups. Called once a
/// tile, it is worth no copies of its code.
template <class Arch, bool Signs>
[[nodiscard, gnu::noinline, gnu::flatten]] std::size_t measure(std::span<const float> row, std::size_t group_size,
                                                               group_tile& tile) noexcept {
  using integers = batch<std::int32_t, Arch>;
  std::size_t groups = 0;
  for (std::size_t first = 0; first < row.size(); first += group_size * integers::size) {
    integers above[integers::size], below[integers::size];
    std::size_t g = 0;
    for_groups(row.subspan(first, std::min(group_size * integers::size, row.size() - first)), group_size,
               [&](std::size_t, auto weights) {
                 const extent<Arch> reach = extent_of<Arch, Signs>(weights);
                 above[g] = reach.above;
                 if constexpr (Signs) below[g] = reach.below;
                 ++g;
               });
    for (std::size_t none = g; none < integers::size; ++none) above[none] = integers(0);
    if constexpr (Signs)
      for (std::size_t none = g; none < integers::size; ++none) below[none] = integers(0);
    largest_of_each<Arch>(above).store_aligned(tile.above + groups);
    if constexpr (Signs) largest_of_each<Arch>(below).store_aligned(tile.below + groups);
    groups += g;
  }
  return groups;
}

/// Checks the groups of a tile: sets `wide`, and returns whether all of them can be stored.
template <class Arch>
[[nodiscard]] bool check(group_tile& tile, std::size_t groups, float largest_scale) noexcept {
  using integers = batch<std::int32_t, Arch>;
  const integers limit(std::bit_cast<std::int32_t>(largest_scale));
  bool storable = true, wide = false;
  for (std::size_t g = 0; g < groups; g += lanes<float, Arch>) {
    const auto scale = bits_of(batch<float, Arch>::load_aligned(tile.divisor + g)) & integers(magnitude_bits);
    storable = storable && xsimd::all(scale <= limit);  // false for a NaN
    wide = wide || error_sums<Arch>::are_wide(
                       xsimd::max(integers::load_aligned(tile.above + g), integers::load_aligned(tile.below + g)));
  }
  tile.wide = wide;
  return storable;
}

/// Divides a row into groups and calls body(first column, weights, levels, wide) for each. A codec says what groups are
/// stored with:
///   has_sign         whether it wants to know how far a group reaches above and below 0, or its magnitude only
///   prepare<Arch>(tile, groups, row)
///                    from above and below to the levels, for all groups of a tile at once (what is not there is 0)
///   largest_scale()  what can be stored; limit_text() says why and what to do, name() who
template <class Arch, class Codec, class Body>
inline void for_coded_groups(const Codec& codec, std::size_t group_size, std::span<const float> row, const Body& body) {
  if (row.empty()) return;
  group_size = std::min(group_size, row.size());
  const std::size_t at_once = group_size * std::clamp<std::size_t>(group_tile::columns / group_size, 1, group_tile::capacity);
  for (std::size_t start = 0; start < row.size(); start += at_once) {
    const auto part = row.subspan(start, std::min(at_once, row.size() - start));
    group_tile tile;
    const std::size_t groups = measure<Arch, Codec::has_sign>(part, group_size, tile);
    codec.template prepare<Arch>(tile, groups, part);
    if (!check<Arch>(tile, groups, codec.largest_scale())) [[unlikely]]
      refuse(codec, tile, part, group_size, start);
    std::size_t g = 0;
    for_groups(part, group_size,
               [&](std::size_t first, auto weights) { body(start + first, weights, tile.levels(g++), tile.wide); });
  }
}

/// The round trip of a row; `kept` may be the row itself. The codec also has
///   encode(weights, levels)   a vector of weights to codes
///   decode(codes, levels)     and on to the values that are kept, rounded()
template <class Arch, class Codec>
[[gnu::flatten]] weight_error round_trip_groups(const Codec& codec, std::size_t group_size, std::span<const float> row,
                                                std::span<float> kept, bool streaming) {
  streaming = streaming && can_stream<Arch>(kept.data(), group_size);
  error_sums<Arch> sums;
  for_coded_groups<Arch>(codec, group_size, row, [&](std::size_t first, auto weights, group_levels levels, bool wide) {
    sums.sweep(weights, &kept[first], wide, streaming, [&](const auto& some) {
      auto coded = codec.encode(some, levels);
      for (auto& each : coded) each = codec.decode(each, levels);
      return coded;
    });
  });
  return sums.total();
}

/// The codes of one group to a stream, and from it the kept values. to_stored and from_stored are a codec's codes to and from
/// the unsigned numbers that are stored.
template <class Arch, class Codec, class Weights, class Writer>
inline void write_codes(Codec codec, const group_levels& levels, Weights weights, Writer& stream) {
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
inline void read_codes(Codec codec, const group_levels& levels, Reader& from, Kept kept, bool streaming) {
  for (std::size_t first = 0; first < kept.size(); first += 64) {
    const std::size_t count = std::min<std::size_t>(64, kept.size() - first);
    const std::uint8_t* const codes = from.take(count);
    for_vectors<Arch>(count, [&](std::size_t i, std::size_t some) {
      float* const to = &kept[first + i];
      const auto values = codec.decode(codec.from_stored(load_bytes<Arch>(codes + i), levels), levels);
      if (streaming) return stream(values, to);
      prefetch(to, far_ahead);
      store_first(values, to, some);
    });
  }
}

}  // namespace klens::detail
