#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/code_streams.hpp>
#include <klens/quant/detail/half_rounding.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/quantizer.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Sixteen groups of weights side by side, weight i of group g in [i][g]: a SIMD lane does for its group, in the same order,
/// what a loop over one group would do. So sums are the same bits on every instruction set.
template <std::size_t Group>
struct lane_tile {
  static constexpr std::size_t groups = 16;
  static constexpr std::size_t capacity = groups * Group;

  alignas(64) float weights[Group][groups];
  alignas(64) float codes[Group][groups];  // stored ones: whole numbers from 0
  alignas(64) float scale[groups];
  alignas(64) float least[groups];

  explicit lane_tile(std::span<const float> row) noexcept {
    for (std::size_t g = 0; g < groups; ++g)
      for (std::size_t i = 0; i < Group; ++i) weights[i][g] = g * Group + i < row.size() ? row[g * Group + i] : 0;
  }

  /// The codes in the order of the row.
  void in_order(std::uint8_t* to) const noexcept {
    for (std::size_t g = 0; g < groups; ++g)
      for (std::size_t i = 0; i < Group; ++i) to[g * Group + i] = static_cast<std::uint8_t>(codes[i][g]);
  }
};

/// The nearest whole number as ggml finds it, halves to even: beyond 2^22 it is not the nearest.
template <class Arch>
[[nodiscard]] inline batch<std::int32_t, Arch> nearest_whole(const batch<float, Arch>& values) noexcept {
  using integers = batch<std::int32_t, Arch>;
  return (bits_of(rounded(values) + batch<float, Arch>(12582912.0f)) & integers(0x7fffff)) - integers(0x400000);
}
template <class Arch>
[[nodiscard]] inline batch<float, Arch> nearest_whole(const batch<float, Arch>& values, int lowest, int highest) noexcept {
  using integers = batch<std::int32_t, Arch>;
  return xsimd::to_float(xsimd::max(xsimd::min(nearest_whole(values), integers(highest)), integers(lowest)));
}

[[nodiscard]] inline float load_half(const std::byte* from) noexcept { return load_scale(scale_kind::f16, from); }
inline void store_half(float value, std::byte* to) noexcept { store_scale(value, scale_kind::f16, to); }

/// A block whose scale fp16 cannot hold, which says so by the number of the block in its tile.
[[nodiscard]] inline unstorable too_large_for_fp16(std::size_t block_index, std::size_t block, float scale) noexcept {
  return {block_index * block, block, scale};
}

/// The loops of formats whose groups are fitted in lanes. A codec has
///   rows_type                 with the constants of the format
///   group, block              how many weights are fitted together, and stored together
///   encode(tile, blocks, to)  writes the blocks; returns the first that fp16 cannot hold the scale of, if there is one
///   decode(from, kept)        one block
template <class Arch, class Codec>
struct tiled_loops {
  using rows_type = typename Codec::rows_type;
  using tile_type = lane_tile<Codec::group>;
  static constexpr std::size_t block_bytes = rows_type::block_bytes;

  [[nodiscard]] static unstorable round_trip(const rows_type&, std::span<const float> weights, std::span<float> kept,
                                             weight_error& error) noexcept {
    std::byte packed[tile_type::capacity / Codec::block * block_bytes];
    alignas(64) float values[Codec::block];
    error = {};
    for (std::size_t first = 0; first < weights.size(); first += tile_type::capacity) {
      const auto part = weights.subspan(first, std::min(tile_type::capacity, weights.size() - first));
      if (const unstorable problem = pack_tile(part, first, packed); problem.found()) return problem;
      for (std::size_t b = 0; b * Codec::block < part.size(); ++b) {
        Codec::decode(packed + b * block_bytes, values);
        const std::size_t at = first + b * Codec::block;
        add_error(weights.data() + at, values, error);
        std::copy_n(values, Codec::block, kept.data() + at);
      }
    }
    return {};
  }

  [[nodiscard]] static unstorable pack(const rows_type&, std::span<const float> weights, std::byte* packed) noexcept {
    for (std::size_t first = 0; first < weights.size(); first += tile_type::capacity) {
      const auto part = weights.subspan(first, std::min(tile_type::capacity, weights.size() - first));
      const unstorable problem = pack_tile(part, first, packed + first / Codec::block * block_bytes);
      if (problem.found()) return problem;
    }
    return {};
  }

  static void unpack(const rows_type&, const std::byte* packed, std::span<float> kept) noexcept {
    alignas(64) float values[Codec::block];
    for (std::size_t first = 0; first < kept.size(); first += Codec::block, packed += block_bytes) {
      Codec::decode(packed, values);
      std::copy_n(values, Codec::block, kept.data() + first);
    }
  }

 private:
  [[nodiscard, gnu::noinline]] static unstorable pack_tile(std::span<const float> part, std::size_t first,
                                                           std::byte* packed) noexcept {
    tile_type tile{part};
    if (!are_finite(tile)) return {first, part.size(), 0};
    unstorable problem = Codec::encode(tile, part.size() / Codec::block, packed);
    problem.first += first;
    return problem;
  }

  [[nodiscard]] static bool are_finite(const tile_type& tile) noexcept {
    using integers = batch<std::int32_t, Arch>;
    integers largest(0);
    const float* const all = tile.weights[0];
    for (std::size_t i = 0; i < tile_type::capacity; i += integers::size)
      largest = xsimd::max(largest, bits_of(batch<float, Arch>::load_aligned(all + i)) & integers(magnitude_bits));
    return xsimd::all(largest < integers(0x7f800000));
  }

  static void add_error(const float* weights, const float* kept, weight_error& error) noexcept {
    weight_error sums[4];  // so that no sum waits for the one before
    for (std::size_t i = 0; i < Codec::block; ++i) {
      const double weight = weights[i], change = kept[i] - weight;
      sums[i % 4] += {weight * weight, change * change};
    }
    for (const weight_error& each : sums) error += each;
  }
};

}  // namespace klens::detail
