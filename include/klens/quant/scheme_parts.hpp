#pragma once

#include <cstddef>
#include <klens/detail/instruction_set.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Which codes the weights of a group become, with b bits; m is the weight of largest magnitude.
enum class grid {
  absmax,   ///< symmetric: scale |m| / (2^(b-1) - 1), codes -(2^(b-1) - 1) .. 2^(b-1) - 1
  signed_,  ///< symmetric: m becomes the code -2^(b-1), so the scale is negative where m is positive; of +m and -m, -m counts
  asym      ///< asymmetric (affine): scale (max(w, 0) - min(w, 0)) / (2^b - 1), codes 0 .. 2^b - 1, an integer zero point
};

/// How the scale of a group is stored. Codes are computed with the scale in float either way.
enum class scale_kind { f16, f32 };

enum class scheme_family {
  integer,         ///< integer codes with a scale for each group of columns
  floating_point,  ///< one float for each weight, without a scale
  gguf_block,      ///< a block format of GGUF
  scaled_float,    ///< floats of 8 or 4 bits with a scale for each group of columns
  table,           ///< codes that name values of a table, with a scale for each group of columns
  other            ///< a user's quantizer that does not describe itself
};

/// What a scheme stores, for programs that write another tool's format.
struct scheme_parts {
  scheme_family family = scheme_family::other;
  int bits = 0;                        ///< of one code, or of one float
  std::size_t group_size = 0;          ///< columns that share a scale; 0: the whole row (for floats: no scale)
  klens::grid grid = grid::absmax;     ///< of integers
  scale_kind scale = scale_kind::f16;  ///< of integers, GGUF blocks, scaled floats of 8 bits and tables

  friend bool operator==(const scheme_parts&, const scheme_parts&) = default;
};

}  // namespace klens
