#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/gguf_loops.hpp>
#include <klens/quant/detail/lane_tile.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/gguf_affine.hpp>
#include <limits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The arithmetic of a gguf_affine_block, as lane_tile.hpp asks for it.
template <class Arch, int Bits>
struct gguf_affine_codec {
  using floats = batch<float, Arch>;
  using rows_type = gguf_affine_block<Bits>;
  static constexpr std::size_t group = rows_type::block, block = rows_type::block;
  static constexpr int top = (1 << Bits) - 1;

  [[nodiscard, gnu::noinline, gnu::flatten]] static unstorable encode(lane_tile<group>& tile, std::size_t blocks,
                                                                      std::byte* to) noexcept {
    for (std::size_t lane = 0; lane < tile.groups; lane += floats::size) fit(tile, lane);
    std::uint8_t codes[lane_tile<group>::capacity];
    tile.in_order(codes);
    for (std::size_t b = 0; b < blocks; ++b, to += rows_type::block_bytes) {
      for (const float each : {tile.scale[b], tile.least[b]})
        if (!(std::abs(each) <= largest_fp16_scale)) return too_large_for_fp16(b, block, each);
      store_half(tile.scale[b], to);
      store_half(tile.least[b], to + 2);
      store_block_codes<Bits>(codes + b * block, to + 4);
    }
    return {};
  }

  [[gnu::flatten]] static void decode(const std::byte* from, float* kept) noexcept {
    const floats scale(load_half(from)), least(load_half(from + 2));
    std::uint8_t codes[block];
    load_block_codes<Bits>(from + 4, codes);
    for (std::size_t i = 0; i < block; i += floats::size)
      (rounded(xsimd::to_float(load_bytes<Arch>(codes + i)) * scale) + least).store_aligned(kept + i);
  }

 private:
  static void fit(lane_tile<group>& tile, std::size_t lane) noexcept {
    floats least(std::numeric_limits<float>::max()), most = -least;
    for (const auto& row : tile.weights) {
      const floats weight = floats::load_aligned(row + lane);
      least = xsimd::select(weight < least, weight, least);  // of two zeros the first
      most = xsimd::select(weight > most, weight, most);
    }
    const floats scale = quotient(most - least, floats(static_cast<float>(top))), inverse = quotient(floats(1.0f), scale);
    const floats steps_of =
        xsimd::select(xsimd::abs(inverse) <= floats(std::numeric_limits<float>::max()), inverse, floats(0.0f));
    scale.store_aligned(tile.scale + lane);
    least.store_aligned(tile.least + lane);
    for (std::size_t i = 0; i < group; ++i) {
      const floats steps = rounded((floats::load_aligned(tile.weights[i] + lane) - least) * steps_of) + floats(0.5f);
      xsimd::to_float(xsimd::to_int(xsimd::min(steps, floats(static_cast<float>(top))))).store_aligned(tile.codes[i] + lane);
    }
  }
};

template <class Arch, int Bits>
struct row_loops<Arch, gguf_affine_block<Bits>> : tiled_loops<Arch, gguf_affine_codec<Arch, Bits>> {};

}  // namespace klens::detail
