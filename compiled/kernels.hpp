#pragma once

#include <klens/detail/compiled.hpp>
#include <klens/metric/detail/row_comparison.hpp>
#include <klens/quant/float16.hpp>
#include <klens/quant/float8.hpp>
#include <klens/quant/gguf.hpp>
#include <klens/quant/gguf_affine.hpp>
#include <klens/quant/gguf_k.hpp>
#include <klens/quant/integer.hpp>
#include <klens/quant/mxfp4.hpp>
#include <klens/quant/nf4.hpp>
#include <klens/quant/nvfp4.hpp>
#include <span>

// The headers' own loops behind compiled.hpp's plain types, compiled for whatever the flags say. Nothing here may leave a
// function that another translation unit could share: what is not inlined is klens' own, in the namespace of its instruction
// set. tests/compiled holds that.
namespace klens::inline KLENS_INSTRUCTION_SET::detail {

inline bool compiled_describe(const float* row, std::size_t size, compiled::reference& known) noexcept {
  reference_row of;
  if (!describe_logits({row, size}, of)) return false;
  known = {of.log_sum_exp, of.energy, of.top, of.masked};
  return true;
}

inline bool compiled_compare(const float* reference, const float* observed, std::size_t size, const compiled::reference& known,
                             unsigned needs, compiled::damage& damage) noexcept {
  row_damage of;
  if (!compare_logits({reference, size}, {observed, size}, {known.log_sum_exp, known.energy, known.top, known.masked},
                      static_cast<row_sums>(needs), of))
    return false;
  damage = {of.log_partition_change, of.kl, of.reverse_kl, of.js, of.squared_error, of.reference_energy, of.same_top};
  return true;
}

/// Calls use(rows) with what the format says.
template <class Use>
auto with_rows(const compiled::row_format& format, const Use& use) noexcept {
  switch (format.kind) {
    case compiled::row_format::stored::fp16:
      return use(fp16{});
    case compiled::row_format::stored::bf16:
      return use(bf16{});
    case compiled::row_format::stored::q4_0:
      return use(q4_0{});
    case compiled::row_format::stored::q5_0:
      return use(q5_0{});
    case compiled::row_format::stored::q4_1:
      return use(q4_1{});
    case compiled::row_format::stored::q5_1:
      return use(q5_1{});
    case compiled::row_format::stored::q2_k:
      return use(q2_k{});
    case compiled::row_format::stored::q3_k:
      return use(q3_k{});
    case compiled::row_format::stored::q4_k:
      return use(q4_k{});
    case compiled::row_format::stored::q5_k:
      return use(q5_k{});
    case compiled::row_format::stored::q6_k:
      return use(q6_k{});
    case compiled::row_format::stored::q8_0:
      return use(q8_0{});
    case compiled::row_format::stored::fp8_e4m3:
      return use(fp8_e4m3{});
    case compiled::row_format::stored::fp8_e5m2:
      return use(fp8_e5m2{});
    case compiled::row_format::stored::mxfp4:
      return use(mxfp4{});
    case compiled::row_format::stored::nvfp4:
      return use(nvfp4{});
    case compiled::row_format::stored::nf4:
      return use(nf4{format.group_size});
    default:
      return use(
          integer_rows{format.bits, static_cast<grid>(format.grid), format.group_size, static_cast<scale_kind>(format.scale)});
  }
}

inline compiled::unstorable compiled_round_trip(const compiled::row_format& format, const float* weights, std::size_t columns,
                                                float* kept, compiled::weight_sums& sums) noexcept {
  weight_error error;
  const unstorable problem = with_rows(format, [&](const auto& rows) {
    return round_trip_loop(rows, {weights, columns}, {kept, columns}, error);
  });
  sums = {error.energy, error.squared_error};
  return {problem.first, problem.count, problem.scale};
}

inline compiled::unstorable compiled_pack(const compiled::row_format& format, const float* weights, std::size_t columns,
                                          std::byte* packed) noexcept {
  const unstorable problem = with_rows(format, [&](const auto& rows) { return pack_loop(rows, {weights, columns}, packed); });
  return {problem.first, problem.count, problem.scale};
}

inline void compiled_unpack(const compiled::row_format& format, const std::byte* packed, std::size_t columns,
                            float* kept) noexcept {
  with_rows(format, [&](const auto& rows) { unpack_loop(rows, packed, {kept, columns}); });
}

[[nodiscard]] constexpr compiled::kernels kernels_named(const char* instruction_set) noexcept {
  return {instruction_set, compiled_describe, compiled_compare, compiled_round_trip, compiled_pack, compiled_unpack};
}

}  // namespace klens::detail

namespace klens::compiled {

// Each from a source of its own, compiled for that instruction set.
extern const kernels baseline_kernels, avx2_kernels, avx512_kernels;

}  // namespace klens::compiled
