#pragma once

namespace klens {

/// Where the codes of a group of weights lie, with b bits; m is the weight of largest magnitude.
enum class grid {
  absmax,   ///< scale |m| / (2^(b-1) - 1), codes -(2^(b-1) - 1) .. 2^(b-1) - 1
  signed_,  ///< m becomes the code -2^(b-1): the scale is negative where m is positive; of +m and -m, -m counts
  asym      ///< scale (max(w, 0) - min(w, 0)) / (2^b - 1), codes 0 .. 2^b - 1 around a zero point that is one of them
};

/// How the scale of a group is stored. Codes are computed with the scale in float either way.
enum class scale_kind { f16, f32 };

}  // namespace klens
