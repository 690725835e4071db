#pragma once

#include <functional>
#include <string>

#include "architecture.hpp"
#include "attention.hpp"
#include "checkpoint.hpp"
#include "config.hpp"
#include "gated_mlp.hpp"

namespace programs {

/// Attention and a gated MLP by turns, each after a norm, under the names of Llama: what most Transformers are.
struct plain_decoder {
  std::size_t width = 0, vocabulary = 0, layers = 0, mlp = 0;
  double epsilon = 0;
  attention_shape attends{};
  bool mlp_bias = false;
  bool tied_by_default = false;
  /// Adds to the attention of a layer what the model type has beside the projections.
  std::function<void(attention&, std::size_t layer, const std::string& prefix)> complete{};
};

[[nodiscard]] architecture build_plain_decoder(const config& fields, checkpoint& tensors, const plain_decoder& of);

}  // namespace programs
