#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <klens/matrix.hpp>

#include "token_set.hpp"

namespace llama_adapter {

/// How llama-perplexity keeps the logits of a reference (--kl-divergence-base): of each sequence the positions from its middle to
/// the last but one, each as 16-bit steps between its largest logit and, at most, 16 below it.
struct kl_base_rows {
  std::size_t first, count;  ///< of a sequence's positions
  explicit kl_base_rows(std::size_t length) : first{length / 2}, count{length - 1 - length / 2} {}
};

/// Writes such a file of what `logits(sequence)` gives, [length x vocabulary].
void write_kl_base(const std::filesystem::path& path, const hybrid::token_set& tokens, std::size_t vocabulary,
                   const std::function<klens::matrix<float>(std::size_t)>& logits);

}  // namespace llama_adapter
