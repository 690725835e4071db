#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>

namespace klens {

/// What a round trip did to weights w, with kept values v. Sums over disjoint parts add up.
struct weight_error {
  double energy = 0;         ///< sum w^2
  double squared_error = 0;  ///< sum (v - w)^2

  weight_error& operator+=(const weight_error& other) noexcept {
    energy += other.energy;
    squared_error += other.squared_error;
    return *this;
  }
};

/// Signal to quantization noise of weights, in dB; lower is worse, +inf where nothing changed (also where there are no
/// weights).
[[nodiscard]] inline double sqnr_db(const weight_error& of) noexcept {
  return of.squared_error == 0 ? INFINITY : 10 * std::log10(of.energy / of.squared_error);
}

/// Stores rows of weights with fewer bits. round_trip writes into `kept` what storage would give back; both spans have the
/// row's length and may be the same memory. bytes is the exact size of one stored row, scales, zero points and padding
/// included. Optional members:
///   bool stores(std::size_t columns) const;  false where rows of that length cannot be stored (GGUF blocks of 32)
///   pack, unpack: see packing_quantizer
template <class Q>
concept quantizer = requires(const Q& q, std::span<const float> weights, std::span<float> kept) {
  q.round_trip(weights, kept);
  { q.bytes(weights.size()) } -> std::convertible_to<std::size_t>;
  { q.name() } -> std::convertible_to<std::string>;
  requires std::copyable<Q>;
};

/// A quantizer that also writes the stored form: pack fills exactly bytes(columns) bytes, unpack gives back, bit for bit, what
/// round_trip gives.
template <class Q>
concept packing_quantizer = quantizer<Q> && requires(const Q& q, std::span<const float> weights, std::span<float> kept,
                                                     std::span<std::byte> packed, std::span<const std::byte> stored) {
  q.pack(weights, packed);
  q.unpack(stored, kept);
};

}  // namespace klens
