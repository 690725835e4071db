#include "growing_sequences.hpp"

#include <algorithm>
#include <klens/error.hpp>
#include <klens/parallel_for.hpp>
#include <string>

#include "engine.hpp"
#include "token_batch.hpp"

namespace llama_adapter {

growing_sequences::growing_sequences(llama_model* model, std::size_t sequences, std::size_t length, std::size_t threads)
    : vocabulary_{llama_vocab_n_tokens(llama_model_get_vocab(model))} {
  llama_context_params parameters = llama_context_default_params();
  parameters.n_seq_max = parameters.n_batch = parameters.n_ubatch = in_context;
  parameters.n_ctx = static_cast<std::uint32_t>(in_context * length);
  const std::size_t contexts = (sequences + in_context - 1) / in_context;
  parameters.n_threads = parameters.n_threads_batch = static_cast<std::int32_t>(std::max<std::size_t>(1, threads / contexts));
  parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  parameters.type_k = parameters.type_v = GGML_TYPE_F32;
  for (std::size_t c = 0; c < contexts; ++c) {
    contexts_.emplace_back(llama_init_from_model(model, parameters));
    if (!contexts_.back())
      throw klens::error{"llama.cpp cannot go on with sequences of this model's own, " + std::to_string(length) +
                         " tokens long: " + take_engine_error()};
  }
}

klens::matrix<float> growing_sequences::after(std::span<const std::int32_t> newest) {
  klens::matrix<float> logits(static_cast<Eigen::Index>(newest.size()), vocabulary_);
  klens::parallel_for(contexts_.size(), contexts_.size(), [&](std::size_t c) {
    const std::size_t first = c * in_context, count = std::min(in_context, newest.size() - first);
    run(*contexts_[c], newest.subspan(first, count),
        logits.middleRows(static_cast<Eigen::Index>(first), static_cast<Eigen::Index>(count)));
  });
  ++position_;
  return logits;
}

void growing_sequences::run(llama_context& context, std::span<const std::int32_t> newest,
                            klens::matrix_ref<float> logits) const {
  token_batch batch{in_context};
  for (std::size_t s = 0; s < in_context; ++s) batch.add(newest[std::min(s, newest.size() - 1)], position_, s);
  if (const int status = llama_decode(&context, batch.get()); status != 0)
    throw klens::error{"llama.cpp cannot go on after " + std::to_string(position_) + " tokens of the model's own (status " +
                       std::to_string(status) + "): " + take_engine_error()};
  for (Eigen::Index s = 0; s < logits.rows(); ++s) {
    const float* const given = llama_get_logits_ith(&context, static_cast<std::int32_t>(s));
    if (!given) throw klens::error{"the model gives no logits; klens ranks models that predict the next token"};
    std::copy_n(given, vocabulary_, logits.row(s).data());
  }
}

}  // namespace llama_adapter
