#pragma once
// What libllama exports and its installed headers leave out. CMakeLists.txt checks that the library at hand has all of it.

#include <llama.h>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

/// Every tensor of a loaded model, in the order in which the model made them.
const std::vector<std::pair<std::string, ggml_tensor*>>& llama_internal_get_tensor_map(const llama_model* model);

struct quantize_state_impl;
quantize_state_impl* llama_quant_init(const llama_model* model, const llama_model_quantize_params* parameters);
void llama_quant_free(quantize_state_impl* state);
/// Whether llama-quantize would change the tensor's type.
bool llama_quant_tensor_allows_quantization(const quantize_state_impl* state, const ggml_tensor* tensor);
/// The types that llama-quantize gives to tensors it changes; they must come in its own order.
void llama_quant_compute_types(quantize_state_impl* state, llama_ftype mixture, ggml_tensor** tensors, ggml_type* types,
                               std::size_t count);
