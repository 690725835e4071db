#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/error.hpp>
#include <span>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

inline constexpr float largest_fp16_scale = 65519.996f;  // the last float that does not round to infinity

/// What a row's loops return where it cannot be stored: the columns of the first group whose scale its storage cannot hold,
/// with that scale, or the first weight that is too large. None where `count` is 0. (Loops throw nothing: their code must not be
/// shared between instruction sets, and texts would be most of it.)
struct unstorable {
  std::size_t first = 0;
  std::size_t count = 0;
  float scale = 0;

  [[nodiscard]] bool found() const noexcept { return count != 0; }
};

[[noreturn, gnu::noinline, gnu::cold]] inline void refuse_length(const std::string& scheme, const char* what, std::size_t is,
                                                                 std::size_t needed) {
  refuse<shape_error>({scheme, ": ", what, " has a length of ", is, ", this row needs ", needed});
}

/// Throws shape_error unless `what` has the length that a row needs.
template <class Scheme>
void expect_length(const Scheme& scheme, const char* what, std::size_t is, std::size_t needed) {
  if (is != needed) [[unlikely]]
    refuse_length(scheme.name(), what, is, needed);
}

[[noreturn, gnu::noinline, gnu::cold]] inline void refuse_weight(const std::string& scheme, float weight, std::size_t column,
                                                                 const std::string& why) {
  refuse<numeric_error>({scheme, ": the weight in column ", column, " is ", std::to_string(weight), "; ", why});
}

/// Throws argument_error unless a row is made of whole blocks.
inline void expect_blocks(const char* scheme, std::size_t columns, std::size_t block, const char* what_to_do) {
  if (columns % block != 0) [[unlikely]]
    refuse<argument_error>({scheme, ": a row of ", columns, " columns is no multiple of ", block, "; ", what_to_do});
}

/// Throws for what the loops found. `Rows` say what is too large and what to do about it.
template <class Rows>
[[noreturn, gnu::noinline, gnu::cold]] void refuse_row(const Rows& rows, std::span<const float> weights,
                                                       const unstorable& where) {
  if constexpr (requires { Rows::too_large; }) {
    refuse_weight(rows.name(), weights[where.first], where.first, rows.limit_text());
  } else {
    for (std::size_t i = where.first; i < where.first + where.count; ++i)
      if (!is_finite(weights[i])) refuse_weight(rows.name(), weights[i], i, "only finite weights can be stored");
    refuse<numeric_error>({rows.name(), ": columns ", where.first, " to ", where.first + where.count - 1, " need a scale of ",
                           std::to_string(where.scale), ", ", rows.limit_text()});
  }
}

}  // namespace klens::detail
