#pragma once

#include <llama-cpp.h>

#include <cstddef>
#include <cstdint>
#include <klens/matrix.hpp>
#include <span>
#include <vector>

namespace llama_adapter {

/// Sequences that grow by a token each, in contexts of llama.cpp with float32 caches and no flash attention, as ranking has them.
/// A context has a fixed number of sequences, so that how many there are changes no bit of what one of them gives; those that
/// nobody asked for repeat the last one. Nor does the number of threads.
class growing_sequences {
 public:
  static constexpr std::size_t in_context = 8;  ///< they read the weights together

  /// Throws klens::error: what llama.cpp says of sequences of that length.
  growing_sequences(llama_model* model, std::size_t sequences, std::size_t length, std::size_t threads);

  /// Logits [sequences x vocabulary] of what follows, given the newest token of each.
  [[nodiscard]] klens::matrix<float> after(std::span<const std::int32_t> newest);

 private:
  void run(llama_context& context, std::span<const std::int32_t> newest, klens::matrix_ref<float> logits) const;

  std::vector<llama_context_ptr> contexts_;
  Eigen::Index vocabulary_;
  std::size_t position_ = 0;
};

}  // namespace llama_adapter
