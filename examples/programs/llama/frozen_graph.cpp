#include "frozen_graph.hpp"

#include <ggml-backend.h>

#include <algorithm>
#include <cstring>
#include <klens/error.hpp>
#include <string_view>

#include "engine.hpp"
#include "graph_part.hpp"
#include "memory_pages.hpp"
#include "token_batch.hpp"

namespace llama_adapter {

frozen_graph::frozen_graph(llama_model* model, std::size_t length) : length_{length} {
  llama_context_params parameters = llama_context_default_params();
  parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = static_cast<std::uint32_t>(length);
  parameters.n_threads = parameters.n_threads_batch = 1;
  parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  parameters.type_k = parameters.type_v = GGML_TYPE_F32;
  parameters.cb_eval = see_node;
  parameters.cb_eval_user_data = this;
  parameters.abort_callback = [](void*) { return true; };  // once its nodes and inputs are known
  context_.reset(llama_init_from_model(model, parameters));
  if (!context_)
    throw klens::error{"llama.cpp cannot run this model on sequences of " + std::to_string(length) +
                       " tokens: " + take_engine_error()};
  lay_out();
  // A context fills its memory for logits and for caches with zeros: nobody reads the one here, and of the others a part.
  const auto vocabulary = static_cast<std::size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));
  if (const float* const logits = llama_get_logits(context_.get()))
    give_back_pages(logits, length * vocabulary * sizeof(float));
  for (const ggml_tensor* node : nodes_)
    for (const ggml_tensor* source : node->src)
      if (const ggml_tensor* const cache = source ? memory_of(source) : nullptr;
          cache && std::string_view{cache->name}.starts_with("cache_") && ggml_backend_buffer_is_host(cache->buffer))
        give_back_pages(cache->data, ggml_nbytes(cache));
}

bool frozen_graph::see_node(ggml_tensor* node, bool asked, void* self) {
  auto& of = *static_cast<frozen_graph*>(self);
  if (!asked) return true;
  of.nodes_.push_back(node);
  for (const ggml_tensor* source : node->src)
    if (source) of.save_input(source);
  return false;
}

void frozen_graph::save_input(const ggml_tensor* source) {
  const ggml_tensor* const input = memory_of(source);
  if ((input->flags & GGML_TENSOR_FLAG_INPUT) == 0 || input->op != GGML_OP_NONE || !input->buffer) return;
  std::vector<std::byte>& saved = inputs_[input];
  if (!saved.empty()) return;
  saved.resize(ggml_nbytes(input));
  ggml_backend_tensor_get(input, saved.data(), 0, saved.size());
}

void frozen_graph::lay_out() {
  token_batch batch{length_};
  for (std::size_t t = 0; t < length_; ++t) batch.add(0, t);
  const int status = llama_decode(context_.get(), batch.get());
  const std::string said = take_engine_error();
  if (nodes_.empty())
    throw klens::error{"llama.cpp cannot run a sequence of " + std::to_string(length_) + " tokens (status " +
                       std::to_string(status) + "): " + said};
  for (const ggml_tensor* node : nodes_)
    if (!tokens_ && node->op == GGML_OP_GET_ROWS && inputs_.contains(memory_of(node->src[1])) &&
        std::string{node->src[0]->name} == "token_embd.weight")
      tokens_ = memory_of(node->src[1]);
}

ggml_tensor* frozen_graph::find(const std::string& name) const noexcept {
  const auto found = std::ranges::find_if(nodes_, [&](const ggml_tensor* each) { return name == each->name; });
  return found == nodes_.end() ? nullptr : *found;
}

void frozen_graph::set_tokens(std::span<const std::int32_t> tokens) {
  std::vector<std::byte>& saved = inputs_.at(tokens_);
  if (tokens.size_bytes() != saved.size())
    throw klens::shape_error{"a graph of " + std::to_string(length_) + " tokens was given " + std::to_string(tokens.size())};
  std::memcpy(saved.data(), tokens.data(), saved.size());
}

void frozen_graph::restore_inputs(std::span<ggml_tensor* const> read_by) const {
  for (const ggml_tensor* node : read_by)
    for (const ggml_tensor* source : node->src) {
      if (!source) continue;
      const ggml_tensor* const input = memory_of(source);
      if (const auto saved = inputs_.find(input); saved != inputs_.end())
        std::memcpy(input->data, saved->second.data(), saved->second.size());
    }
}

}  // namespace llama_adapter
