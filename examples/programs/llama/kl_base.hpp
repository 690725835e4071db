#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
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

/// Such a file, read one batch of sequences at a time.
class kl_base {
 public:
  /// Throws klens::file_error: not such a file, cut short, tokens outside its vocabulary.
  explicit kl_base(std::filesystem::path path);

  [[nodiscard]] const programs::token_set& tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::size_t vocabulary() const noexcept { return vocabulary_; }
  [[nodiscard]] kl_base_rows rows() const noexcept { return kl_base_rows{tokens_.length}; }

  /// Log-probabilities [count * rows().count x vocabulary] of `count` sequences.
  [[nodiscard]] klens::matrix<float> logits(std::size_t first_sequence, std::size_t count);

 private:
  std::filesystem::path path_;
  std::ifstream stream_;
  programs::token_set tokens_;
  std::size_t vocabulary_ = 0;
};

/// Writes such a file of what `logits(sequence)` gives, [length x vocabulary].
void write_kl_base(const std::filesystem::path& path, const programs::token_set& tokens, std::size_t vocabulary,
                   const std::function<klens::matrix<float>(std::size_t)>& logits);

}  // namespace llama_adapter
