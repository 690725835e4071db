#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/error_sums.hpp>
#include <klens/quant/detail/half_rounding.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <span>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

template <std::size_t Size>
using constant = std::integral_constant<std::size_t, Size>;

/// A size of groups that most often is `Usual`, so that loops are compiled for that one and for any; for any only where it is 0.
template <std::size_t Usual>
struct mostly {
  std::size_t size;
  [[nodiscard]] constexpr operator std::size_t() const noexcept { return size; }  // NOLINT: implicit
};
template <class Size>
inline constexpr std::size_t usual_size = 0;
template <std::size_t Usual>
inline constexpr std::size_t usual_size<mostly<Usual>> = Usual;

/// Calls body(first column, weights) for each group of a row; the last may be shorter. Groups of a constant size, and of the
/// usual sizes, are spans of a fixed length: compilers unroll the loops over them.
template <class Weight, class Size, class Body>
inline void for_groups(std::span<Weight> row, Size group_size, const Body& body) {
  std::size_t first = 0;
  const auto whole_groups = [&]<std::size_t Fixed>(constant<Fixed>) {
    for (; first + Fixed <= row.size(); first += Fixed) body(first, std::span<Weight, Fixed>(row.data() + first, Fixed));
  };
  if constexpr (requires { Size::value; }) {
    whole_groups(group_size);
  } else {
    if constexpr (std::is_same_v<Size, std::size_t>) {
      if (group_size == 32) whole_groups(constant<32>{});
      if (group_size == 64) whole_groups(constant<64>{});
      if (group_size == 128) whole_groups(constant<128>{});
    } else if constexpr (usual_size<Size> != 0) {
      if (group_size == usual_size<Size>) whole_groups(constant<usual_size<Size>>{});
    }
    for (; first < row.size(); first += group_size)
      body(first, row.subspan(first, std::min<std::size_t>(group_size, row.size() - first)));
  }
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

/// Up to 64 groups of a row. Their scales are computed together, one SIMD lane per group.
struct group_tile {
  static constexpr std::size_t capacity = 64;
  static constexpr std::size_t columns = 4096;  // so that the weights are still in the first cache when they are coded

  alignas(64) std::int32_t above[capacity] = {};  // an extent each; without signs the magnitude
  alignas(64) std::int32_t below[capacity] = {};
  alignas(64) float divisor[capacity];  // group_levels
  alignas(64) float inverse[capacity];
  alignas(64) float scale[capacity];
  alignas(64) float zero[capacity];
  bool wide = false;  // see error_sums

  [[nodiscard]] group_levels levels(std::size_t g) const noexcept { return {divisor[g], inverse[g], scale[g], zero[g]}; }
};

/// Fills in above and below, for as many groups at a time as a vector has lanes. Returns the number of groups.
template <class Arch, bool Signs, class Size>
[[nodiscard, gnu::noinline, gnu::flatten]] std::size_t measure(std::span<const float> row, Size group_size,
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
[[nodiscard, gnu::noinline]] bool check(group_tile& tile, std::size_t groups, float largest_scale) noexcept {
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

/// Of the groups of `part`, which begins in column `start`, the first whose scale is too large or NaN.
[[nodiscard, gnu::noinline, gnu::cold]] inline unstorable first_unstorable(const group_tile& tile, float largest_scale,
                                                                           std::size_t columns, std::size_t group_size,
                                                                           std::size_t start) noexcept {
  std::size_t g = 0;
  while (std::abs(tile.divisor[g]) <= largest_scale) ++g;
  const std::size_t first = g * group_size;
  return {start + first, columns - first < group_size ? columns - first : group_size, tile.divisor[g]};
}

/// Divides a row into groups and calls body(first column, weights, levels, wide) for each, up to one that cannot be stored. A
/// codec, integer_codec or gguf_codec, says what groups are stored with:
///   rows             how rows are stored, with largest_scale()
///   has_sign()       whether it asks how far a group reaches above and below 0, or for its magnitude only
///   prepare(tile, groups, weights)
///                    from above and below to the levels, for all groups of a tile at once (what is not there is 0)
template <class Arch, class Codec, class Size, class Body>
[[nodiscard]] inline unstorable for_coded_groups(const Codec& codec, Size group_size, std::span<const float> row,
                                                 const Body& body) {
  if (row.empty()) return {};
  const std::size_t at_once = group_size * std::clamp<std::size_t>(group_tile::columns / group_size, 1, group_tile::capacity);
  for (std::size_t start = 0; start < row.size(); start += at_once) {
    const auto part = row.subspan(start, std::min(at_once, row.size() - start));
    group_tile tile;
    const auto size = [&] {
      if constexpr (requires { Size::value; })
        return group_size;
      else
        return static_cast<std::size_t>(group_size);  // so that codecs share what measures
    }();
    const std::size_t groups =
        codec.has_sign() ? measure<Arch, true>(part, size, tile) : measure<Arch, false>(part, size, tile);
    codec.prepare(tile, groups, part);
    if (!check<Arch>(tile, groups, codec.rows.largest_scale())) [[unlikely]]
      return first_unstorable(tile, codec.rows.largest_scale(), part.size(), group_size, start);
    std::size_t g = 0;
    for_groups(part, group_size,
               [&](std::size_t first, auto weights) { body(start + first, weights, tile.levels(g++), tile.wide); });
  }
  return {};
}

/// The round trip of a row; `kept` may be the row itself. The codec also has
///   encode(weights, levels)   a vector of weights to codes
///   decode(codes, levels)     and on to the values that are kept, rounded()
template <class Arch, class Codec, class Size>
[[nodiscard, gnu::flatten]] unstorable round_trip_groups(const Codec& codec, Size group_size, std::span<const float> row,
                                                         std::span<float> kept, weight_error& error) {
  error_sums<Arch> sums;
  const unstorable problem = for_coded_groups<Arch>(
      codec, group_size, row, [&](std::size_t first, auto weights, const group_levels& levels, bool wide) {
        sums.sweep(weights, &kept[first], wide, [&](const auto& some) {
          auto coded = codec.encode(some, levels);
          for (auto& each : coded) each = codec.decode(each, levels);
          return coded;
        });
      });
  error = sums.total();
  return problem;
}

}  // namespace klens::detail
