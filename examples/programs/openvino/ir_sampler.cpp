#include "ir_sampler.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace openvino_adapter {

programs::token_sampler sampler_of(ir_model& model, std::size_t threads) {
  const auto begin = [&model](std::size_t sequences, std::size_t length) {
    std::vector<std::int32_t> tokens(sequences * length);  // what stands behind the newest one is seen by none before it
    return [&model, tokens, length, position = std::size_t{0}](std::span<const std::int32_t> newest) mutable {
      for (std::size_t s = 0; s < newest.size(); ++s) tokens[s * length + position] = newest[s];
      return model.logits_at(tokens, length, position++);
    };
  };
  return {model.vocabulary(), std::nullopt, threads, threads, begin};
}

}  // namespace openvino_adapter
