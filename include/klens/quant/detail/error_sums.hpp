#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <klens/detail/simd.hpp>
#include <klens/quant/quantizer.hpp>
#include <span>

namespace klens::detail {

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

/// How many bytes ahead loops over weights ask for memory, by measurement: far ahead for the second cache, near for the first,
/// where round trips want what they will write.
inline constexpr std::size_t far_ahead = 16384, near_ahead = 2048;

/// Carries out round trips and adds up what they change, in the same sweep. Float lanes, emptied into doubles every 128
/// vectors: relative error below 2e-5, and 1e-38 for each weight. Groups whose squares leave the range of float are `wide`: they
/// go through doubles, one by one.
template <class Arch>
class error_sums {
 public:
  /// Whether, given the bits of the largest magnitudes of some groups of weights, one of the groups is wide.
  [[nodiscard]] static bool are_wide(const batch<std::int32_t, Arch>& largest) noexcept {
    using integers = batch<std::int32_t, Arch>;
    constexpr std::int32_t least = (127 - 30) << 23, most = (127 + 50) << 23;  // 2^-30, 2^50
    return xsimd::any((largest < integers(least) && largest != integers(0)) || largest > integers(most));
  }

  /// kept = change(weights), for arrays of vectors; `kept` may be the weights themselves. Streaming: past the caches.
  template <class Weights, class Change>
  void sweep(Weights weights, float* kept, bool wide, bool streaming, const Change& change) {
    constexpr std::size_t at_once = 128 * lanes<float, Arch>;
    for (std::size_t first = 0; first < weights.size(); first += at_once) {
      const std::size_t count = std::min(at_once, weights.size() - first);
      if (streaming)
        add<true>(&weights[first], kept + first, count, wide, change);
      else
        add<false>(&weights[first], kept + first, count, wide, change);
      if ((pending_ += count) >= at_once) flush();
    }
  }

  [[nodiscard]] weight_error total() noexcept {
    flush();
    return total_;
  }

 private:
  template <bool Streaming, class Change>
  void add(const float* weights, float* kept, std::size_t count, bool wide, const Change& change) {
    using vector = batch<float, Arch>;
    vector energy(0.0f), squared_error(0.0f);  // of their own: they stay in registers
    for_blocks<Arch>(weights, count, [&](std::size_t i, const auto& before, std::size_t some) {
      for (std::size_t line = 0; line < sizeof before; line += 64) {
        prefetch(weights + i, far_ahead + line);
        if (!Streaming) prefetch<cache::first>(kept + i, near_ahead + line);
      }
      auto after = change(before);
      for (std::size_t k = 0; k < before.size(); ++k) {
        after[k] = rounded(after[k]);
        const auto difference = after[k] - before[k];
        if (wide) [[unlikely]] {
          total_ += one_by_one(before[k], after[k]);
        } else {
          energy = xsimd::fma(before[k], before[k], energy);
          squared_error = xsimd::fma(difference, difference, squared_error);
        }
        float* const to = kept + i + k * vector::size;
        if (Streaming && some >= vector::size)
          stream(after[k], to);
        else
          store_first(after[k], to, std::min(some, +vector::size));
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

  [[nodiscard, gnu::noinline, gnu::cold]] static weight_error one_by_one(batch<float, Arch> weights,
                                                                         batch<float, Arch> kept) noexcept {
    alignas(batch<float, Arch>) float before[lanes<float, Arch>], after[lanes<float, Arch>];
    weights.store_aligned(before);
    kept.store_aligned(after);
    weight_error error;
    for (std::size_t i = 0; i < lanes<float, Arch>; ++i) {
      const double weight = before[i], change = after[i] - weight;
      error += {weight * weight, change * change};
    }
    return error;
  }

  batch<float, Arch> energy_ = batch<float, Arch>(0.0f);
  batch<float, Arch> squared_error_ = batch<float, Arch>(0.0f);
  weight_error total_;
  std::size_t pending_ = 0;
};

}  // namespace klens::detail
