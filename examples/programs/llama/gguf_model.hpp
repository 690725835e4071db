#pragma once

#include <ggml-cpp.h>
#include <llama-cpp.h>

#include <cstddef>
#include <cstdint>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gguf_file.hpp"
#include "paged_weights.hpp"

namespace llama_adapter {

/// How a model is run.
enum class arithmetic {
  floats,  ///< every matrix that llama-quantize would change, the products with it and the cache of keys and values in float32
  stored   ///< as llama.cpp --no-repack runs the file: kernels round activations to what goes with the type of the weights
};

/// What llama-quantize is told beside a mixture.
struct mixture_rules {
  bool pure = false;                           ///< --pure: the mixture's first type for all tensors
  std::optional<ggml_type> output{};           ///< --output-tensor-type
  std::optional<ggml_type> token_embedding{};  ///< --token-embedding-type
};

struct run_settings {
  std::size_t threads = 1;  ///< logits do not depend on it
  int gpu_layers = 0;       ///< as llama.cpp's -ngl
};

/// A language model in llama.cpp. Every sequence runs on its own: logits are the same, bit for bit, for any batch and number of
/// threads.
class gguf_model {
 public:
  /// Throws klens::error: what llama.cpp says, or that memory is short.
  gguf_model(const gguf_file& file, arithmetic how, const run_settings& settings);

  /// How many tokens the model was made for.
  [[nodiscard]] std::size_t trained_length() const noexcept;
  [[nodiscard]] std::size_t vocabulary() const noexcept { return vocabulary_; }

  /// The matrices that llama-quantize would change, in the order in which the model uses them. Of a model in floats: they view
  /// this model's memory and end with it.
  [[nodiscard]] std::vector<klens::layer> layers();
  /// The same matrices as the file stores them. Of a model with arithmetic::stored.
  [[nodiscard]] std::vector<paged_matrix> stored_matrices() const;
  /// Whether the embedding is the head as well.
  [[nodiscard]] bool tied() const noexcept { return tied_; }
  [[nodiscard]] llama_model* handle() const noexcept { return model_.get(); }
  /// What llama-quantize makes of these matrices in one of its mixtures ("Q4_K_M" is LLAMA_FTYPE_MOSTLY_Q4_K_M).
  /// Throws klens::argument_error where a rule's type does not divide the rows of its tensor: there llama-quantize fails.
  [[nodiscard]] tensor_types types_in(llama_ftype mixture, const mixture_rules& rules = {}) const;
  /// The types that the rules alone decide, whatever the mixture. An embedding that is the head as well is the output tensor,
  /// unless a type is given for it. Throws as types_in does.
  [[nodiscard]] tensor_types types_by(const mixture_rules& rules) const;

  /// Logits [sequences * length x vocabulary].
  [[nodiscard]] klens::matrix<float> logits(std::span<const std::int32_t> tokens, std::size_t length);

  /// A text as tokens, without one that begins it; `special` finds tokens like <unk> that are spelled out in it.
  /// Throws klens::error for a model without a tokenizer.
  [[nodiscard]] std::vector<std::int32_t> tokens_of(const std::string& text, bool special) const;
  /// The token that llama.cpp puts before every text, if it does.
  [[nodiscard]] std::optional<std::int32_t> beginning() const;
  /// The same, or the beginning-of-text token that the file names although llama.cpp puts none there.
  [[nodiscard]] std::optional<std::int32_t> begin_token() const;

 private:
  // A matrix under its name; several tensors where an embedding is the head as well and they lie apart.
  struct matrix_tensors {
    std::string name;
    std::vector<ggml_tensor*> copies;
  };

  void find_matrices();
  void place_as_floats(ggml_tensor& tensor);
  void prepare_contexts(std::size_t sequences, std::size_t length);
  void run(llama_context& context, std::span<const std::int32_t> tokens, float* logits) const;

  arithmetic how_;
  run_settings settings_;
  std::size_t vocabulary_ = 0;
  llama_model_ptr model_;
  bool tied_ = true;
  std::vector<matrix_tensors> matrices_;
  std::vector<ggml_backend_buffer_ptr> buffers_;
  std::size_t context_length_ = 0;
  std::vector<llama_context_ptr> contexts_;
};

}  // namespace llama_adapter
