#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/gguf_k_bytes.hpp>
#include <klens/quant/detail/gguf_k_fits.hpp>
#include <klens/quant/detail/lane_tile.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/gguf_k.hpp>
#include <limits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The arithmetic of a gguf_k_block, as lane_tile.hpp asks for it.
template <class Arch, int Bits>
struct gguf_k_codec {
  using floats = batch<float, Arch>;
  using rows_type = gguf_k_block<Bits>;
  using bytes = k_bytes<Bits>;
  static constexpr std::size_t group = rows_type::group, block = rows_type::super_block, groups = block / group;
  static constexpr int middle = rows_type::has_least ? 0 : 1 << (Bits - 1), top = (1 << Bits) - 1 - middle;
  using tile_type = lane_tile<group>;
  using per_group = float[tile_type::groups];

  [[nodiscard, gnu::noinline, gnu::flatten]] static unstorable encode(tile_type& tile, std::size_t blocks,
                                                                      std::byte* to) noexcept {
    for (std::size_t lane = 0; lane < tile.groups; lane += floats::size) fit({tile, lane});

    // Scales become integers times one number of the block.
    alignas(64) per_group scale_steps, least_steps, scales, leasts;
    float of_scales[tile_type::groups / groups], of_leasts[tile_type::groups / groups];
    for (std::size_t b = 0; b < tile_type::groups / groups; ++b) {
      const float unit = of_scales[b] = unit_of(tile.scale + b * groups, scale_steps + b * groups);
      if (b < blocks && !(std::abs(unit) <= largest_fp16_scale)) return too_large_for_fp16(b, block, unit);
      if constexpr (rows_type::has_least) {
        const float least_unit = of_leasts[b] = unit_of(tile.least + b * groups, least_steps + b * groups);
        if (b < blocks && !(std::abs(least_unit) <= largest_fp16_scale)) return too_large_for_fp16(b, block, least_unit);
      }
    }
    levels(tile.scale, scale_steps);
    if constexpr (rows_type::has_least) levels(tile.least, least_steps);
    for (std::size_t g = 0; g < tile_type::groups; ++g) {
      if (Bits == 3 && of_scales[g / groups] == 0) scale_steps[g] = -scale_top;  // as ggml leaves such a block
      scales[g] = static_cast<float>(static_cast<half>(of_scales[g / groups])) * scale_steps[g];
      if constexpr (rows_type::has_least)
        leasts[g] = static_cast<float>(static_cast<half>(of_leasts[g / groups])) * least_steps[g];
    }
    for (std::size_t lane = 0; lane < tile.groups; lane += floats::size)
      k_fits<Arch, group>{tile, lane}.code_again(scales, rows_type::has_least ? leasts : nullptr, middle, top);

    std::uint8_t codes[tile_type::capacity];
    tile.in_order(codes);
    for (std::size_t b = 0; b < blocks; ++b, to += rows_type::block_bytes) {
      int scale_codes[groups], least_codes[groups] = {};
      std::copy_n(scale_steps + b * groups, groups, scale_codes);
      if constexpr (rows_type::has_least) std::copy_n(least_steps + b * groups, groups, least_codes);
      if (Bits == 6 && of_scales[b] == 0) std::fill_n(codes + b * block, block, std::uint8_t{0});  // so, too
      bytes::store_levels(of_scales[b], rows_type::has_least ? of_leasts[b] : 0, scale_codes, least_codes, to);
      bytes::store_codes(codes + b * block, to);
    }
    return {};
  }

  [[gnu::flatten]] static void decode(const std::byte* from, float* kept) noexcept {
    std::uint8_t codes[block];
    int scale_codes[groups], least_codes[groups];
    float unit = 0, least_unit = 0;
    bytes::load_levels(from, unit, least_unit, scale_codes, least_codes);
    bytes::load_codes(from, codes);
    for (std::size_t g = 0; g < groups; ++g) {
      const floats scale(unit * static_cast<float>(scale_codes[g])), offset(static_cast<float>(middle));
      const floats least(rows_type::has_least ? least_unit * static_cast<float>(least_codes[g]) : 0.0f);
      for (std::size_t i = g * group; i < (g + 1) * group; i += floats::size) {
        const floats product = rounded((xsimd::to_float(load_bytes<Arch>(codes + i)) - offset) * scale);
        (rows_type::has_least ? product - least : product).store_aligned(kept + i);
      }
    }
  }

 private:
  static constexpr int scale_top = Bits == 2 ? 15 : Bits == 3 ? 32 : Bits == 6 ? 128 : 63;

  static void fit(const k_fits<Arch, group>& groups_of) noexcept {
    if constexpr (Bits == 2) groups_of.template with_least<true>(3, -0.5f, 15, [](const floats& x) { return xsimd::abs(x); });
    if constexpr (Bits == 3) groups_of.one_by_one(4);
    if constexpr (Bits == 4 || Bits == 5) {
      const floats usual = groups_of.root_mean_square();
      groups_of.template with_least<false>(top, Bits == 4 ? -1.0f : -0.5f, Bits == 4 ? 20 : 15,
                                           [&](const floats& x) { return usual + xsimd::abs(x); });
    }
    if constexpr (Bits == 6) groups_of.around_zero(32);
  }

  /// The number that the scales of a block are whole multiples of, and how many of them the scale of 1 has, for each group.
  [[nodiscard]] static float unit_of(const float* of_groups, float* inverse) noexcept {
    float decides = 0;
    for (std::size_t g = 0; g < groups; ++g)
      if (!(std::abs(of_groups[g]) <= std::numeric_limits<float>::max()))  // of weights whose squares are too large for float
        return std::numeric_limits<float>::infinity();
      else if ((middle == 0 ? of_groups[g] : std::abs(of_groups[g])) > std::abs(decides))
        decides = of_groups[g];
    const bool none = Bits == 6 ? std::abs(decides) < k_fits<Arch, group>::vanishing : decides == 0;
    const float steps = none ? 0 : static_cast<float>(middle == 0 ? scale_top : -scale_top) / decides;
    std::fill_n(inverse, groups, steps);
    if (none) return 0;
    return middle == 0 ? decides / static_cast<float>(scale_top) : 1 / steps;
  }

  /// The whole multiples, in place of how many the scale of 1 has.
  static void levels(const float* of_groups, float* steps) noexcept {
    using integers = batch<std::int32_t, Arch>;
    for (std::size_t g = 0; g < tile_type::groups; g += floats::size) {
      integers whole = nearest_whole(floats::load_aligned(of_groups + g) * floats::load_aligned(steps + g));
      if constexpr (middle == 0) whole = xsimd::min(whole & integers(255), integers(scale_top));
      if constexpr (middle != 0) whole = xsimd::max(xsimd::min(whole, integers(scale_top - 1)), integers(-scale_top));
      xsimd::to_float(whole).store_aligned(steps + g);
    }
  }
};

template <class Arch, int Bits>
struct row_loops<Arch, gguf_k_block<Bits>> : tiled_loops<Arch, gguf_k_codec<Arch, Bits>> {};

}  // namespace klens::detail
