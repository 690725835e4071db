#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/code_streams.hpp>
#include <klens/quant/detail/coded_loops.hpp>
#include <klens/quant/detail/group_rows.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/detail/value_codes.hpp>
#include <klens/quant/nf4.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The bounds between neighbours, as dQuantizeNF4 of bitsandbytes has them: half way, to a rounding.
inline constexpr std::array nf4_bounds{
    -0.8480964004993439f,  -0.6106329262256622f,   -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
    -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f,   0.2035212516784668f,
    0.2920137718319893f,   0.3893125355243683f,    0.5016634166240692f,  0.6427869200706482f,   0.8614784181118011f};

/// For each thirty-second of -1 to 1 the bound in it, if there is one (none has two, none lies near an end), and the values that
/// are nearest below and above.
struct nf4_intervals {
  float bound[32] = {}, below[32] = {}, above[32] = {};

  constexpr nf4_intervals() noexcept {
    std::size_t code = 0;
    for (int k = 0; k < 32; ++k) {
      below[k] = nf4::values[code];
      if (code < 15 && static_cast<int>(nf4_bounds[code] * 16 + 16) == k) bound[k] = nf4_bounds[code++];
      above[k] = nf4::values[code];
    }
  }
};
inline constexpr nf4_intervals nf4_table;

/// For a search by halves, by the first three of its four answers: the bound to compare with in the fourth, and the values below
/// and above it. Entries 0, 2, 4 and 6 of `third` are the bounds by the first two.
struct nf4_halves {
  alignas(32) float third[8] = {}, fourth[8] = {}, below[8] = {}, above[8] = {};

  constexpr nf4_halves() noexcept {
    for (int i = 0; i < 8; ++i) {
      third[i] = nf4_bounds[static_cast<std::size_t>(i / 2 * 4 + 1)];
      fourth[i] = nf4_bounds[static_cast<std::size_t>(2 * i)];
      below[i] = nf4::values[2 * i];
      above[i] = nf4::values[2 * i + 1];
    }
  }
};
inline constexpr nf4_halves nf4_search;

/// The arithmetic of nf4, as coded_loops.hpp asks for it. Codes go through the loops as the values that they stand for.
template <class Arch>
struct nf4_codec : value_codes<Arch> {
  using codes = value_codes<Arch>;
  using typename codes::floats;
  using typename codes::integers;
  static constexpr int bits = 4;
  static constexpr std::size_t usual_group = 64;
  static constexpr std::size_t scale_bytes = 4;

  nf4 rows;

  [[gnu::noinline]] void prepare(group_tile& tile, std::size_t groups, std::span<const float> /*weights*/) const noexcept {
    for (std::size_t g = 0; g < groups; g += floats::size) {
      const floats largest = from_bits(integers::load_aligned(tile.above + g)), least(1e-38f);
      largest.store_aligned(tile.divisor + g);  // which says whether all weights are finite
      quotient(floats(1.0f), xsimd::select(largest < least, least, largest)).store_aligned(tile.inverse + g);
      largest.store_aligned(tile.scale + g);
    }
  }

  template <class Vectors>
  [[nodiscard]] static Vectors encode(Vectors weights, const group_levels& of) noexcept {
    for (floats& each : weights) {
      const floats x = rounded(each * floats(of.inverse));
      if constexpr (has_look_up<Arch>) {
        const integers interval = xsimd::min(xsimd::to_int(x * floats(16.0f) + floats(16.0f)), integers(31));
        const auto is_above = x > look_up<Arch>(nf4_table.bound, interval);
        each = xsimd::select(is_above, look_up<Arch>(nf4_table.above, interval), look_up<Arch>(nf4_table.below, interval));
        continue;
      }
      if constexpr (has_short_look_up<Arch>) {
        const auto bit = [](const auto& answer, std::int32_t value) {
          return bits_of<Arch>(xsimd::select(answer, from_bits<Arch>(integers(value)), floats(0.0f)));
        };
        const auto first = x > floats(nf4_bounds[7]);
        const auto second = x > xsimd::select(first, floats(nf4_bounds[11]), floats(nf4_bounds[3]));
        integers at = bit(first, 4) | bit(second, 2);
        at = at | bit(x > short_look_up<Arch>(nf4_search.third, at), 1);
        each = xsimd::select(x > short_look_up<Arch>(nf4_search.fourth, at), short_look_up<Arch>(nf4_search.above, at),
                             short_look_up<Arch>(nf4_search.below, at));
        continue;
      }
      each = floats(nf4::values[0]);
      for (std::size_t i = 0; i < 15; ++i) each = xsimd::select(x > floats(nf4_bounds[i]), floats(nf4::values[i + 1]), each);
    }
    return weights;
  }

  [[nodiscard]] static integers to_stored(const floats& values, const group_levels& /*of*/) noexcept {
    floats code(0.0f);
    for (const float bound : nf4_bounds) code = code + xsimd::select(values > floats(bound), floats(1.0f), floats(0.0f));
    return xsimd::to_int(code);
  }

  static void store(const group_levels& of, std::byte* to) noexcept { store_scale(of.scale, scale_kind::f32, to); }
};

template <class Arch>
struct row_loops<Arch, nf4> {
  using coded = coded_loops<Arch, nf4, nf4_codec<Arch>>;

  [[nodiscard]] static unstorable round_trip(const nf4& rows, std::span<const float> weights, std::span<float> kept,
                                             weight_error& error) noexcept {
    return coded::round_trip(rows, weights, kept, error);
  }

  [[nodiscard]] static unstorable pack(const nf4& rows, std::span<const float> weights, std::byte* packed) noexcept {
    const unstorable problem = coded::pack(rows, weights, packed);
    for (std::size_t i = 0; i < (weights.size() + 1) / 2; ++i) packed[i] = packed[i] << 4 | packed[i] >> 4;
    return problem;
  }

  static void unpack(const nf4& rows, const std::byte* packed, std::span<float> kept) noexcept {
    const std::byte* scales = packed + (kept.size() + 1) / 2;
    const std::size_t group = rows.group_of(kept.size());
    for (std::size_t first = 0; first < kept.size(); first += std::min(group, kept.size() - first), scales += 4) {
      const float scale = load_scale(scale_kind::f32, scales);
      for (std::size_t i = first; i < kept.size() && i - first < group; ++i)
        kept[i] = nf4::values[std::to_integer<unsigned>(packed[i / 2]) >> (i % 2 == 0 ? 4 : 0) & 15] * scale;
    }
  }
};

}  // namespace klens::detail
