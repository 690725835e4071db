#pragma once
// What the tests of klens-llama share.

#include <doctest/doctest.h>
#include <llama.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <klens/io/safetensors.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gguf_file.hpp"
#include "program/klens.hpp"
#include "tiny_gguf.hpp"

namespace llama_adapter {

/// A file name in a folder that goes at the end.
inline std::filesystem::path scratch(const std::string& name) {
  static const support::temporary_folder folder;
  return folder / name;
}

inline std::filesystem::path written(const tiny_model& model, const std::string& name = "model.gguf") {
  model.write(scratch(name));
  return scratch(name);
}

inline bool holds(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

inline bool same_bits(const klens::matrix<float>& a, const klens::matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

/// Of the tiny model's vocabulary.
inline std::vector<std::int32_t> some_tokens(std::int32_t count, std::int32_t from = 0) {
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = from; i < from + count; ++i) tokens.push_back(i * i % 97 % 11);
  return tokens;
}

inline std::filesystem::path written(const std::vector<std::int32_t>& tokens, const std::string& name) {
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int32_t>("input_ids", {tokens.size()}, tokens)};
  klens::write_safetensors(scratch(name), tensors);
  return scratch(name);
}

/// The same in rows of `wide` tokens, each with `padding` behind it that an attention_mask says does not count.
inline std::filesystem::path written_padded(const std::vector<std::int32_t>& tokens, std::size_t wide, std::size_t padding,
                                            const std::string& name) {
  std::vector<std::int32_t> ids, mask;
  for (std::size_t at = 0; at < tokens.size(); ++at) {
    ids.push_back(tokens[at]);
    mask.push_back(1);
    if ((at + 1) % wide != 0) continue;
    ids.insert(ids.end(), padding, 3);
    mask.insert(mask.end(), padding, 0);
  }
  const std::vector<std::size_t> shape{tokens.size() / wide, wide + padding};
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int32_t>("attention_mask", shape, mask),
                                                  klens::as_tensor<std::int32_t>("input_ids", shape, ids)};
  klens::write_safetensors(scratch(name), tensors);
  return scratch(name);
}

inline klens::layer& named(std::vector<klens::layer>& layers, const std::string& name) {
  const auto found = std::ranges::find(layers, name, &klens::layer::name);
  REQUIRE(found != layers.end());
  return *found;
}

/// What llama-quantize makes of a file.
inline std::filesystem::path quantized(const gguf_file& file, llama_ftype mixture,
                                       const std::vector<llama_model_tensor_override>& overrides = {{nullptr, GGML_TYPE_COUNT}},
                                       const llama_model_imatrix_data* imatrix = nullptr) {
  llama_model_quantize_params parameters = llama_model_quantize_default_params();
  parameters.ftype = mixture;
  parameters.nthread = 1;
  parameters.tt_overrides = overrides.data();
  parameters.imatrix = imatrix;
  REQUIRE(llama_model_quantize(file.path().c_str(), scratch("quantized.gguf").c_str(), &parameters) == 0);
  return scratch("quantized.gguf");
}

/// What it makes of a file by a tensor type file; tensors that `types` leaves out stay as they are.
inline std::filesystem::path quantized(const gguf_file& file, const tensor_types& types,
                                       const llama_model_imatrix_data* imatrix = nullptr) {
  std::vector<std::string> patterns;
  for (const gguf_tensor& each : file.tensors()) patterns.push_back("^" + each.name + "$");
  std::vector<llama_model_tensor_override> overrides;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    const auto type = types.find(file.tensors()[i].name);
    overrides.push_back({patterns[i].c_str(), type == types.end() ? file.tensors()[i].type : type->second});
  }
  overrides.push_back({nullptr, GGML_TYPE_COUNT});
  return quantized(file, LLAMA_FTYPE_MOSTLY_Q8_0, overrides, imatrix);
}

}  // namespace llama_adapter
