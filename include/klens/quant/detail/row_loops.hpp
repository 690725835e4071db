#pragma once

#include <cstddef>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/quantizer.hpp>
#include <span>
#if !defined(KLENS_COMPILED)
#include <klens/detail/simd.hpp>
#endif

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The loops of a built-in quantizer for one instruction set: static functions round_trip, pack and unpack, with the signatures
/// of the three below. `Rows` says how a row is stored and nothing of vectors. Specialized in integer_loops.hpp, gguf_loops.hpp
/// and so on.
template <class Arch, class Rows>
struct row_loops;

/// The seam between quantizers and their loops. Lengths have been checked. Users of klens::compiled find them defined in
/// compiled_loops.hpp.
template <class Rows>
[[nodiscard]] unstorable round_trip_loop(const Rows& rows, std::span<const float> weights, std::span<float> kept,
                                         weight_error& error) noexcept;
template <class Rows>
[[nodiscard]] unstorable pack_loop(const Rows& rows, std::span<const float> weights, std::byte* packed) noexcept;
template <class Rows>
void unpack_loop(const Rows& rows, const std::byte* packed, std::span<float> kept) noexcept;

#if !defined(KLENS_COMPILED)
template <class Rows>
unstorable round_trip_loop(const Rows& rows, std::span<const float> weights, std::span<float> kept,
                           weight_error& error) noexcept {
  return row_loops<best_arch, Rows>::round_trip(rows, weights, kept, error);
}
template <class Rows>
unstorable pack_loop(const Rows& rows, std::span<const float> weights, std::byte* packed) noexcept {
  return row_loops<best_arch, Rows>::pack(rows, weights, packed);
}
template <class Rows>
void unpack_loop(const Rows& rows, const std::byte* packed, std::span<float> kept) noexcept {
  row_loops<best_arch, Rows>::unpack(rows, packed, kept);
}
#endif

// What the members of quantizers do.

template <class Rows>
weight_error checked_round_trip(const Rows& rows, std::span<const float> weights, std::span<float> kept) {
  expect_length(rows, "kept", kept.size(), weights.size());
  weight_error error;
  const unstorable problem = round_trip_loop(rows, weights, kept, error);
  if (problem.found()) [[unlikely]]
    refuse_row(rows, weights, problem);
  return error;
}
template <class Rows>
void checked_pack(const Rows& rows, std::span<const float> weights, std::span<std::byte> packed) {
  expect_length(rows, "packed", packed.size(), rows.bytes(weights.size()));
  const unstorable problem = pack_loop(rows, weights, packed.data());
  if (problem.found()) [[unlikely]]
    refuse_row(rows, weights, problem);
}
template <class Rows>
void checked_unpack(const Rows& rows, std::span<const std::byte> packed, std::span<float> kept) {
  expect_length(rows, "packed", packed.size(), rows.bytes(kept.size()));
  unpack_loop(rows, packed.data(), kept);
}

/// A quantizer of `Rows` that are known at run time only. (A template: its loops are compiled where they are called.)
template <class Rows>
struct row_quantizer : Rows {
  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return checked_round_trip<Rows>(*this, weights, kept);
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const { checked_pack<Rows>(*this, weights, packed); }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const { checked_unpack<Rows>(*this, packed, kept); }
};

}  // namespace klens::detail
