#pragma once
// GGUF files small enough for tests, with made-up weights.

#include <ggml-cpp.h>
#include <ggml.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <klens/error.hpp>
#include <string>
#include <vector>

namespace llama_adapter {

/// What a tiny Transformer of two blocks is like; the vocabulary is bare numbers, without a tokenizer.
struct tiny_model {
  static constexpr std::int64_t width = 256, hidden = 96, vocabulary = 11;

  std::string architecture = "llama";
  ggml_type type = GGML_TYPE_F16;  ///< of the matrices
  bool tied = false;
  std::uint32_t heads = 4;
  std::uint32_t experts = 0;  ///< of the MLPs, two of them for a token
  std::int64_t words = vocabulary;
  float wave = 0.7f;                                               ///< other weights for another one
  std::function<void(gguf_context*)> also = [](gguf_context*) {};  ///< further metadata

  void write(const std::filesystem::path& path) const {
    const ggml_context_ptr memory{ggml_init({std::size_t{1} << 24, nullptr, false})};
    const gguf_context_ptr file{gguf_init_empty()};
    const auto number = [&](const char* key, std::uint32_t value) {
      gguf_set_val_u32(file.get(), (architecture + "." + key).c_str(), value);
    };
    gguf_set_val_str(file.get(), "general.architecture", architecture.c_str());
    number("block_count", 2);
    number("context_length", 64);
    number("embedding_length", width);
    number("feed_forward_length", hidden);
    number("attention.head_count", heads);
    number("vocab_size", static_cast<std::uint32_t>(words));
    if (experts > 0) {
      number("expert_count", experts);
      number("expert_used_count", 2);
    }
    gguf_set_val_f32(file.get(), (architecture + ".attention.layer_norm_rms_epsilon").c_str(), 1e-5f);
    gguf_set_val_str(file.get(), "tokenizer.ggml.model", "no_vocab");
    also(file.get());

    float phase = 0;
    const auto add = [&](const std::string& name, ggml_type of, std::vector<std::int64_t> extents) {
      ggml_tensor* const tensor = ggml_new_tensor(memory.get(), of, static_cast<int>(extents.size()), extents.data());
      ggml_set_name(tensor, name.c_str());
      std::vector<float> values(static_cast<std::size_t>(ggml_nelements(tensor)));
      if (!(phase < 1e30f)) phase = wave;  // it grows with every weight
      for (float& each : values) each = 0.25f * std::sin(phase += wave + 1e-4f * phase);
      ggml_quantize_chunk(of, values.data(), tensor->data, 0, ggml_nrows(tensor), tensor->ne[0], nullptr);
      gguf_add_tensor(file.get(), tensor);
    };
    add("token_embd.weight", type, {width, words});
    add("output_norm.weight", GGML_TYPE_F32, {width});
    if (!tied) add("output.weight", type, {width, words});
    for (int block = 0; block < 2; ++block) {
      const std::string at = "blk." + std::to_string(block) + ".";
      for (const char* norm : {"attn_norm.weight", "ffn_norm.weight"}) add(at + norm, GGML_TYPE_F32, {width});
      for (const char* square : {"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"})
        add(at + square, type, {width, width});
      if (experts > 0) {
        add(at + "ffn_gate_inp.weight", GGML_TYPE_F32, {width, experts});
        for (const char* wide : {"ffn_gate_exps.weight", "ffn_up_exps.weight"}) add(at + wide, type, {width, hidden, experts});
        add(at + "ffn_down_exps.weight", type, {hidden, width, experts});
        continue;
      }
      for (const char* wide : {"ffn_gate.weight", "ffn_up.weight"}) add(at + wide, type, {width, hidden});
      add(at + "ffn_down.weight", type, {hidden, width});
    }
    if (!gguf_write_to_file(file.get(), path.c_str(), false)) throw klens::file_error{path.string() + ": cannot be written"};
  }
};

}  // namespace llama_adapter
