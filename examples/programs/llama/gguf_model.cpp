#include "gguf_model.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <klens/error.hpp>
#include <klens/parallel_for.hpp>
#include <utility>

#include "engine.hpp"
#include "llama_internals.hpp"
#include "token_batch.hpp"

namespace llama_adapter {
namespace {

// llama-quantize's rules, as libllama exports them.
class quantize_rules {
 public:
  explicit quantize_rules(const llama_model* model, const mixture_rules& rules = {}) {
    parameters_.pure = rules.pure;
    if (rules.output) parameters_.output_tensor_type = *rules.output;
    if (rules.token_embedding) parameters_.token_embedding_type = *rules.token_embedding;
    state_ = llama_quant_init(model, &parameters_);
  }
  quantize_rules(const quantize_rules&) = delete;
  quantize_rules& operator=(const quantize_rules&) = delete;
  ~quantize_rules() { llama_quant_free(state_); }

  [[nodiscard]] bool change(const ggml_tensor* tensor) const { return llama_quant_tensor_allows_quantization(state_, tensor); }
  [[nodiscard]] std::vector<ggml_type> types(llama_ftype mixture, std::vector<ggml_tensor*> in_order) const {
    std::vector<ggml_type> types(in_order.size());
    llama_quant_compute_types(state_, mixture, in_order.data(), types.data(), types.size());
    return types;
  }

 private:
  llama_model_quantize_params parameters_ = llama_model_quantize_default_params();
  quantize_state_impl* state_ = nullptr;
};

// llama-quantize goes from block to block, and by names inside of one.
std::pair<int, std::string> quantize_order(const std::string& name) {
  int block = -1;
  (void)std::sscanf(name.c_str(), "blk.%d.", &block);
  return {block, name};
}

std::vector<float> as_floats(const ggml_tensor& tensor) {
  std::vector<std::byte> stored(ggml_nbytes(&tensor));
  ggml_backend_tensor_get(&tensor, stored.data(), 0, stored.size());
  std::vector<float> values(static_cast<std::size_t>(ggml_nelements(&tensor)));
  if (tensor.type == GGML_TYPE_F32)
    std::memcpy(values.data(), stored.data(), stored.size());
  else
    ggml_get_type_traits(tensor.type)->to_float(stored.data(), values.data(), ggml_nelements(&tensor));
  return values;
}

}  // namespace

gguf_model::gguf_model(const gguf_file& file, arithmetic how, const run_settings& settings) : how_{how}, settings_{settings} {
  llama_model_params parameters = llama_model_default_params();
  parameters.n_gpu_layers = settings.gpu_layers;
  parameters.load_mode = LLAMA_LOAD_MODE_MMAP;
  parameters.use_extra_bufts = false;  // these lay weights out for kernels of their own; some fail on narrow matrices
  model_.reset(llama_model_load_from_file(file.path().c_str(), parameters));
  if (!model_) throw klens::file_error{file.path().string() + ": llama.cpp cannot load it: " + take_engine_error()};
  vocabulary_ = static_cast<std::size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
  find_matrices();
  if (how == arithmetic::floats)
    for (const matrix_tensors& each : matrices_)
      for (ggml_tensor* tensor : each.copies) place_as_floats(*tensor);
}

void gguf_model::find_matrices() {
  const quantize_rules rules{model_.get()};
  for (const auto& [name, tensor] : llama_internal_get_tensor_map(model_.get())) {
    if (name == "output.weight") tied_ = false;
    if (!rules.change(tensor)) continue;
    const auto known = std::ranges::find(matrices_, name, &matrix_tensors::name);
    if (known == matrices_.end())
      matrices_.push_back({name, {tensor}});
    else
      known->copies.push_back(tensor);
  }
  if (matrices_.empty()) throw klens::file_error{"the model has no matrix that llama-quantize would change"};
}

void gguf_model::place_as_floats(ggml_tensor& tensor) {
  const std::vector<float> values = as_floats(tensor);
  // A file's pages cannot be written; those of a device can.
  ggml_backend_buffer_type_t memory =
      ggml_backend_buffer_is_host(tensor.buffer) ? ggml_backend_cpu_buffer_type() : ggml_backend_buffer_get_type(tensor.buffer);
  tensor.type = GGML_TYPE_F32;
  tensor.nb[0] = sizeof(float);
  for (int d = 1; d < GGML_MAX_DIMS; ++d) tensor.nb[d] = tensor.nb[d - 1] * static_cast<std::size_t>(tensor.ne[d - 1]);
  tensor.buffer = nullptr;
  tensor.data = nullptr;
  const std::size_t bytes = ggml_backend_buft_get_alloc_size(memory, &tensor);
  ggml_backend_buffer_ptr& buffer = buffers_.emplace_back(ggml_backend_buft_alloc_buffer(memory, bytes));
  if (!buffer)
    throw klens::error{std::string{"no memory for "} + tensor.name + " as float32, " + std::to_string(bytes) + " bytes"};
  ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  ggml_backend_tensor_alloc(buffer.get(), &tensor, ggml_backend_buffer_get_base(buffer.get()));
  ggml_backend_tensor_set(&tensor, values.data(), 0, values.size() * sizeof(float));
}

std::vector<klens::layer> gguf_model::layers() {
  using floats = Eigen::Map<klens::matrix<float>>;
  std::vector<klens::layer> all;
  for (const matrix_tensors& each : matrices_) {
    ggml_tensor* const first = each.copies.front();
    const auto rows = ggml_nrows(first), columns = first->ne[0];
    if (each.copies.size() == 1 && ggml_backend_buffer_is_host(first->buffer))
      all.emplace_back(each.name, klens::matrix_ref<float>{floats{static_cast<float*>(first->data), rows, columns}});
    else
      all.emplace_back(
          each.name, static_cast<std::size_t>(rows), static_cast<std::size_t>(columns),
          [first](klens::matrix_ref<float> into) {
            const std::vector<float> values = as_floats(*first);
            into = Eigen::Map<const klens::matrix<float>>{values.data(), into.rows(), into.cols()};
          },
          [copies = each.copies](klens::const_matrix_ref<float> from) {
            const klens::matrix<float> dense = from;
            for (ggml_tensor* copy : copies) ggml_backend_tensor_set(copy, dense.data(), 0, ggml_nbytes(copy));
          });
    if (tied_ && each.name == "token_embd.weight") all.back().note = "tied to the head: the perturbation reaches both uses";
  }
  return all;
}

std::vector<paged_matrix> gguf_model::stored_matrices() const {
  std::vector<paged_matrix> all;
  for (const matrix_tensors& each : matrices_) {
    const ggml_tensor* const first = each.copies.front();
    if (!ggml_backend_buffer_is_host(first->buffer)) throw klens::error{each.name + " lies in the memory of a device"};
    paged_matrix& made = all.emplace_back();
    made.name = each.name;
    made.rows = static_cast<std::size_t>(ggml_nrows(first));
    made.columns = static_cast<std::size_t>(first->ne[0]);
    made.rows_of_expert = static_cast<std::size_t>(first->ne[1]);
    made.file = made.current = {first->type, static_cast<const std::byte*>(first->data)};
    for (ggml_tensor* const tensor : each.copies) made.copies.push_back({tensor});
  }
  return all;
}

tensor_types gguf_model::types_by(const mixture_rules& rules) const {
  tensor_types types;
  for (const matrix_tensors& each : matrices_) {
    const bool is_embedding = each.name == "token_embd.weight";
    if (!is_embedding && each.name != "output.weight") continue;
    const std::optional<ggml_type> type =
        is_embedding && (rules.token_embedding || !tied_) ? rules.token_embedding : rules.output;
    if (!type) continue;
    const std::int64_t columns = each.copies.front()->ne[0];
    if (columns % ggml_blck_size(*type) != 0)
      throw klens::argument_error{std::string{ggml_type_name(*type)} + " for " + each.name + ": its rows of " +
                                  std::to_string(columns) + " weights are no whole blocks of " +
                                  std::to_string(ggml_blck_size(*type))};
    types[each.name] = *type;
  }
  return types;
}

tensor_types gguf_model::types_in(llama_ftype mixture, const mixture_rules& rules) const {
  (void)types_by(rules);
  std::vector<ggml_tensor*> in_order;
  for (const matrix_tensors& each : matrices_) in_order.push_back(each.copies.front());
  std::ranges::sort(in_order, {}, [](const ggml_tensor* each) { return quantize_order(each->name); });
  const std::vector<ggml_type> types = quantize_rules{model_.get(), rules}.types(mixture, in_order);
  tensor_types by_name;
  for (std::size_t i = 0; i < types.size(); ++i) by_name[in_order[i]->name] = types[i];
  return by_name;
}

std::size_t gguf_model::trained_length() const noexcept {
  return static_cast<std::size_t>(llama_model_n_ctx_train(model_.get()));
}

klens::matrix<float> gguf_model::logits(std::span<const std::int32_t> tokens, std::size_t length) {
  const std::size_t sequences = tokens.size() / length;
  prepare_contexts(sequences, length);
  klens::matrix<float> logits(tokens.size(), vocabulary_);
  for (std::size_t first = 0; first < sequences; first += contexts_.size()) {
    const std::size_t at_once = std::min(contexts_.size(), sequences - first);
    klens::parallel_for(at_once, at_once, [&](std::size_t i) {
      const std::size_t begin = (first + i) * length;
      run(*contexts_[i], tokens.subspan(begin, length), logits.data() + begin * vocabulary_);
    });
  }
  return logits;
}

void gguf_model::prepare_contexts(std::size_t sequences, std::size_t length) {
  const std::size_t wanted = std::min(settings_.threads, sequences);
  if (context_length_ == length && contexts_.size() >= wanted) return;
  llama_context_params parameters = llama_context_default_params();
  parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = static_cast<std::uint32_t>(length);
  parameters.n_threads = parameters.n_threads_batch =
      static_cast<std::int32_t>(std::max<std::size_t>(1, settings_.threads / wanted));
  if (how_ == arithmetic::floats) {
    parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    parameters.type_k = parameters.type_v = GGML_TYPE_F32;
  }
  contexts_.clear();
  for (std::size_t i = 0; i < wanted; ++i) {
    contexts_.emplace_back(llama_init_from_model(model_.get(), parameters));
    if (!contexts_.back())
      throw klens::error{"llama.cpp cannot run this model on sequences of " + std::to_string(length) +
                         " tokens: " + take_engine_error()};
  }
  context_length_ = length;
}

void gguf_model::run(llama_context& context, std::span<const std::int32_t> tokens, float* logits) const {
  token_batch batch{tokens.size()};
  for (std::size_t t = 0; t < tokens.size(); ++t) batch.add(tokens[t], t);
  llama_memory_clear(llama_get_memory(&context), true);
  if (const int status = llama_decode(&context, batch.get()); status != 0)
    throw klens::error{"llama.cpp cannot run a sequence of " + std::to_string(tokens.size()) + " tokens (status " +
                       std::to_string(status) + "): " + take_engine_error()};
  const float* const given = llama_get_logits(&context);
  if (!given) throw klens::error{"the model gives no logits; klens ranks models that predict the next token"};
  std::copy_n(given, tokens.size() * vocabulary_, logits);
}

std::vector<std::int32_t> gguf_model::tokens_of(const std::string& text, bool special) const {
  const llama_vocab* const vocabulary = llama_model_get_vocab(model_.get());
  if (llama_vocab_type(vocabulary) == LLAMA_VOCAB_TYPE_NONE)
    throw klens::error{"the model has no tokenizer; give its token ids with --tokens"};
  if (text.size() > std::size_t{1} << 30) throw klens::error{"the text is longer than 1 GiB; give a part of it"};
  std::vector<std::int32_t> tokens(text.size() + 8);
  std::int32_t count = 0;
  try {
    count = llama_tokenize(vocabulary, text.data(), static_cast<std::int32_t>(text.size()), tokens.data(),
                           static_cast<std::int32_t>(tokens.size()), false, special);
  } catch (const std::exception& caught) {
    throw klens::error{"llama.cpp cannot turn the text into tokens, is it UTF-8? It says: " + std::string{caught.what()}};
  }
  if (count < 0) throw klens::error{"llama.cpp cannot turn the text into tokens: " + take_engine_error()};
  tokens.resize(static_cast<std::size_t>(count));
  return tokens;
}

std::optional<std::int32_t> gguf_model::beginning() const {
  const llama_vocab* const vocabulary = llama_model_get_vocab(model_.get());
  if (!llama_vocab_get_add_bos(vocabulary)) return std::nullopt;
  return llama_vocab_bos(vocabulary);
}

std::optional<std::int32_t> gguf_model::begin_token() const {
  // Where the file names none, libllama has a default of the tokenizer's kind, which may be any token of this vocabulary.
  const bool named = llama_model_meta_val_str(model_.get(), "tokenizer.ggml.bos_token_id", nullptr, 0) >= 0;
  const llama_token token = llama_vocab_bos(llama_model_get_vocab(model_.get()));
  if (!named || token < 0 || static_cast<std::size_t>(token) >= vocabulary_) return beginning();
  return token;
}

}  // namespace llama_adapter
