#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/quantizer.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Calls body(index, count) for each vector of a row; the last may have fewer than all lanes.
template <class Arch, class Body>
inline void for_vectors(std::size_t size, const Body& body) {
  constexpr std::size_t step = lanes<float, Arch>;
  std::size_t i = 0;
  for (; i + step <= size; i += step) body(i, step);
  if (i < size) body(i, size - i);
}

/// The same two vectors at a time as long as there are two: body(index, array of vectors, count).
template <class Arch, class Body>
inline void for_blocks(const float* row, std::size_t size, const Body& body) {
  using vector = batch<float, Arch>;
  std::size_t i = 0;
  for (; i + 2 * vector::size <= size; i += 2 * vector::size)
    body(i, std::array{vector::load_unaligned(row + i), vector::load_unaligned(row + i + vector::size)}, 2 * vector::size);
  for (; i < size; i += vector::size) {
    const std::size_t count = std::min(+vector::size, size - i);
    body(i, std::array{load_first<Arch>(row + i, count)}, count);
  }
}

/// How many bytes ahead the loops ask for weights. Without it matrices that come from memory take a third longer.
inline constexpr std::size_t far_ahead = 16384;

/// Changes weights and adds up what that changes, in one pass. Sums are floats, added to doubles every 128 vectors: relative
/// error below 2e-5, and 1e-38 for each weight. Groups whose squares leave the range of float are `wide`: their sums are
/// doubles, one weight at a time.
template <class Arch>
class error_sums {
 public:
  /// Whether, given the bits of the largest magnitudes of some groups of weights, one of the groups is wide.
  [[nodiscard]] static bool are_wide(const batch<std::int32_t, Arch>& largest) noexcept {
    using integers = batch<std::int32_t, Arch>;
    constexpr std::int32_t least = (127 - 30) << 23, most = (127 + 50) << 23;  // 2^-30, 2^50
    return xsimd::any((largest < integers(least) && largest != integers(0)) || largest > integers(most));
  }

  /// kept = change(weights), for arrays of vectors; `kept` may be the weights themselves.
  template <class Weights, class Change>
  void sweep(Weights weights, float* kept, bool wide, const Change& change) {
    constexpr std::size_t at_once = 128 * lanes<float, Arch>;
    for (std::size_t first = 0; first < weights.size(); first += at_once) {
      const std::size_t count = std::min(at_once, weights.size() - first);
      add(&weights[first], kept + first, count, wide, change);
      if ((pending_ += count) >= at_once) flush();
    }
  }

  [[nodiscard]] weight_error total() noexcept {
    flush();
    return total_;
  }

 private:
  template <class Change>
  void add(const float* weights, float* kept, std::size_t count, bool wide, const Change& change) {
    using vector = batch<float, Arch>;
    vector energy(0.0f), squared_error(0.0f);  // locals, not members: they stay in registers
    for_blocks<Arch>(weights, count, [&](std::size_t i, const auto& before, std::size_t some) {
      for (std::size_t line = 0; line < sizeof before; line += 64) prefetch(weights + i, far_ahead + line);
      auto after = change(before);
      for (vector& each : after) each = rounded(each);
      if (wide) [[unlikely]]
        total_ += one_by_one(before, after);
      for (std::size_t k = 0; k < before.size(); ++k) {
        if (!wide) {
          const vector difference = after[k] - before[k];
          energy = xsimd::fma(before[k], before[k], energy);
          squared_error = xsimd::fma(difference, difference, squared_error);
        }
        store_first(after[k], kept + i + k * vector::size, std::min(some, +vector::size));
      }
    });
    energy_ = energy_ + energy;
    squared_error_ = squared_error_ + squared_error;
  }

  void flush() noexcept {
    total_ += {sum_of(energy_), sum_of(squared_error_)};
    energy_ = squared_error_ = batch<float, Arch>(0.0f);
    pending_ = 0;
  }

  template <class Vectors>  // by value: see integer_codec::divided
  [[nodiscard, gnu::noinline, gnu::cold]] static weight_error one_by_one(Vectors weights, Vectors kept) noexcept {
    constexpr std::size_t count = lanes<float, Arch>;
    weight_error error;
    for (std::size_t k = 0; k < weights.size(); ++k) {
      alignas(batch<float, Arch>) float before[count], after[count];
      weights[k].store_aligned(before);
      kept[k].store_aligned(after);
      for (std::size_t i = 0; i < count; ++i) {
        const double weight = before[i], change = after[i] - weight;
        error += {weight * weight, change * change};
      }
    }
    return error;
  }

  batch<float, Arch> energy_ = batch<float, Arch>(0.0f);
  batch<float, Arch> squared_error_ = batch<float, Arch>(0.0f);
  weight_error total_;
  std::size_t pending_ = 0;
};

}  // namespace klens::detail
