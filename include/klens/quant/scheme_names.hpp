#pragma once

#include <concepts>
#include <klens/quant/detail/integer_rows.hpp>
#include <klens/quant/float16.hpp>
#include <klens/quant/float32.hpp>
#include <klens/quant/float8.hpp>
#include <klens/quant/gguf.hpp>
#include <klens/quant/gguf_affine.hpp>
#include <klens/quant/gguf_k.hpp>
#include <klens/quant/informed_integer.hpp>
#include <klens/quant/integer.hpp>
#include <klens/quant/mxfp4.hpp>
#include <klens/quant/nf4.hpp>
#include <klens/quant/nvfp4.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

using any_integer = row_quantizer<integer_rows>;

template <class... Quantizers>
struct quantizer_list {
  template <class Quantizer>
  static constexpr bool contains = (std::same_as<Quantizer, Quantizers> || ...);

  /// Calls use(quantizer) with the one of that name; false where there is none.
  template <class Use>
  static bool find(std::string_view name, const Use& use) {
    return (use_if_named<Quantizers>(name, use) || ...);
  }

  /// What names there are.
  [[nodiscard]] static std::string grammar() {
    std::string text;
    ((text += (text.empty() ? "" : ", ") + std::string{names_of<Quantizers>()}), ...);
    return text;
  }

 private:
  template <class Quantizer, class Use>
  static bool use_if_named(std::string_view name, const Use& use) {
    if constexpr (requires { Quantizer::from_name(name); }) {
      const auto rows = Quantizer::from_name(name);
      if (rows) use(Quantizer{*rows});
      return rows.has_value();
    } else {
      if (name != Quantizer::name()) return false;
      use(Quantizer{});
      return true;
    }
  }

  template <class Quantizer>
  [[nodiscard]] static const char* names_of() {
    if constexpr (requires { Quantizer::grammar; })
      return Quantizer::grammar;
    else
      return Quantizer::name();
  }
};

/// The quantizers that have a name. A new one is a header of its own and an entry here.
using built_in_quantizers = quantizer_list<any_integer, f32, fp16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k,
                                           q6_k, fp8_e4m3, fp8_e5m2, mxfp4, nvfp4, nf4, importance_integer, gptq_integer>;

/// What a scheme keeps of a policy: of integers, whose bits and grid are constants, the run-time form, so that all of them share
/// one set of loops.
template <class Quantizer>
[[nodiscard]] Quantizer run_time_form(Quantizer policy) {
  return policy;
}
template <int Bits, grid Grid>
[[nodiscard]] any_integer run_time_form(integer<Bits, Grid> policy) {
  return {policy.rows()};
}

}  // namespace detail

/// What a built-in scheme of that name stores; nothing for other names.
[[nodiscard]] inline std::optional<scheme_parts> parts_of(std::string_view name) {
  std::optional<scheme_parts> parts;
  detail::built_in_quantizers::find(name, [&](const auto& found) { parts = found.parts(); });
  return parts;
}

/// The name that klens writes for a scheme: of names that older versions wrote (int4-g64-s32) today's (int4-g64-f32), of any
/// other text the text itself.
[[nodiscard]] inline std::string canonical_scheme_name(std::string_view name) {
  std::string canonical{name};
  detail::built_in_quantizers::find(name, [&](const auto& found) { canonical = found.name(); });
  return canonical;
}

}  // namespace klens
