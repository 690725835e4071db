#pragma once

#include <klens/matrix.hpp>

#include "engine/image_network.hpp"
#include "token_set.hpp"

namespace programs {

/// Images of one size, a row each: colors one after the other, each of them row by row.
struct image_set {
  klens::matrix<float> pixels;
  image_grid each;

  /// What a scan calls sequences of tokens: as many of one position as there are images.
  [[nodiscard]] token_set as_sequences() const;
};

/// Reads `images` [n, 3, height, width] of a safetensors file, normalized as the model wants them: those that the choice names.
/// Throws klens::file_error: no such tensor, another shape or type, a NaN or an infinity, too few images; argument_error for
/// a length, which images do not have.
[[nodiscard]] image_set read_images(const token_choice& choice);

}  // namespace programs
