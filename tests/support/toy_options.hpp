#pragma once

#include <klens/rank/rank_options.hpp>

#include "support/toy_model.hpp"

namespace support {

/// A scan over all tokens of the model, batch by batch.
[[nodiscard]] inline klens::rank_options options_for(const toy_model& model) {
  klens::rank_options options;
  options.batches = model.batches();
  options.sequence_length = model.length;
  options.tokens = model.tokens();
  return options;
}

}  // namespace support
