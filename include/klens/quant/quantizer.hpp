#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <klens/quant/scheme_parts.hpp>
#include <span>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET {

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

/// Stores rows of weights with fewer bits. All members are const and keep no state between rows; several threads call them at
/// once. Required:
///   std::string name() const                     what rankings and plans call it
///   std::size_t bytes(std::size_t columns) const the exact size of one stored row, with scales, zero points and padding
///   round_trip(std::span<const float> weights, std::span<float> kept) const
///                                                writes into `kept` what storage would give back. Both have the row's length
///                                                and may be the same memory. Returns void, or the row's weight_error, which
///                                                saves a second pass over the row. Throws numeric_error for weights that
///                                                cannot be stored, with the reason in one sentence.
/// Optional:
///   bool stores(std::size_t columns) const       false where rows of that length cannot be stored (GGUF blocks of 32);
///                                                without it: any length
///   std::string kept_as(std::size_t columns) const
///                                                what it makes of rows of that length goes by this name: two quantizers with
///                                                the same answer keep the same weights, bit for bit, and a scan measures one
///                                                of them (llama-quantize's stand-ins); without it: its own name
///   scheme_parts parts() const                   bits, group size and so on; without it: scheme_family::other
///   pack and unpack                              see packing_quantizer
/// A member of that name with another signature does not compile as a klens::scheme; the message says what was expected.
template <class Q>
concept quantizer = std::copyable<Q> && requires(const Q& q, std::span<const float> weights, std::span<float> kept) {
  q.round_trip(weights, kept);
  { q.bytes(weights.size()) } -> std::convertible_to<std::size_t>;
  { q.name() } -> std::convertible_to<std::string>;
};

/// A quantizer that also writes the stored form:
///   void pack(std::span<const float> weights, std::span<std::byte> packed) const    fills exactly bytes(columns) bytes
///   void unpack(std::span<const std::byte> packed, std::span<float> kept) const     gives what round_trip gives, bit for bit
template <class Q>
concept packing_quantizer = quantizer<Q> && requires(const Q& q, std::span<const float> weights, std::span<float> kept,
                                                     std::span<std::byte> packed, std::span<const std::byte> stored) {
  q.pack(weights, packed);
  q.unpack(stored, kept);
};

}  // namespace klens
