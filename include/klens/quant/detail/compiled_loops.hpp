#pragma once

#include <klens/detail/compiled.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/detail/row_loops.hpp>
#include <klens/quant/quantizer.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// How a built-in quantizer stores rows, as the compiled library is told.
template <class Rows>
[[nodiscard]] compiled::row_format format_of(const Rows& rows) noexcept {
  using stored = compiled::row_format::stored;
  const scheme_parts parts = rows.parts();
  compiled::row_format format{stored::integers, parts.bits, static_cast<int>(parts.grid), static_cast<int>(parts.scale),
                              parts.group_size};
  if constexpr (requires { Rows::is_fp16; })
    format.kind = Rows::is_fp16 ? stored::fp16 : stored::bf16;
  else if constexpr (requires { Rows::fraction_bits; })
    format.kind = Rows::fraction_bits == 3 ? stored::fp8_e4m3 : stored::fp8_e5m2;
  else if constexpr (requires { Rows::super_block; })
    format.kind = static_cast<stored>(static_cast<int>(stored::q2_k) + parts.bits - 2);
  else if constexpr (requires { Rows::has_minimum; })
    format.kind = parts.bits == 4 ? stored::q4_1 : stored::q5_1;
  else if (parts.family == scheme_family::gguf_block)
    format.kind = parts.bits == 4 ? stored::q4_0 : parts.bits == 5 ? stored::q5_0 : stored::q8_0;
  else if (parts.family == scheme_family::scaled_float)
    format.kind = parts.group_size == 32 ? stored::mxfp4 : stored::nvfp4;
  else if (parts.family == scheme_family::table)
    format.kind = stored::nf4;
  return format;
}

// The seam of row_loops.hpp, out of the compiled library.
#if defined(KLENS_COMPILED)

template <class Rows>
unstorable round_trip_loop(const Rows& rows, std::span<const float> weights, std::span<float> kept,
                           weight_error& error) noexcept {
  compiled::weight_sums sums{};
  const auto problem = compiled::chosen().round_trip(format_of(rows), weights.data(), weights.size(), kept.data(), sums);
  error = {sums.energy, sums.squared_error};
  return {problem.first, problem.count, problem.scale};
}
template <class Rows>
unstorable pack_loop(const Rows& rows, std::span<const float> weights, std::byte* packed) noexcept {
  const auto problem = compiled::chosen().pack(format_of(rows), weights.data(), weights.size(), packed);
  return {problem.first, problem.count, problem.scale};
}
template <class Rows>
void unpack_loop(const Rows& rows, const std::byte* packed, std::span<float> kept) noexcept {
  compiled::chosen().unpack(format_of(rows), packed, kept.size(), kept.data());
}
#endif

}  // namespace klens::detail
