#pragma once

#include <ggml-cpp.h>
#include <llama-cpp.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace llama_adapter {

/// The graph that llama.cpp lays out for one sequence from its beginning, kept as it is: every position an output, float32 caches,
/// no flash attention. Nodes of it can be run over and over, by whoever has their memory; llama.cpp itself runs it no more.
class frozen_graph {
 public:
  /// Throws klens::error: what llama.cpp says of sequences of that length.
  frozen_graph(llama_model* model, std::size_t length);
  frozen_graph(const frozen_graph&) = delete;
  frozen_graph& operator=(const frozen_graph&) = delete;

  [[nodiscard]] std::size_t length() const noexcept { return length_; }
  [[nodiscard]] std::span<ggml_tensor* const> nodes() const noexcept { return nodes_; }
  /// The node of that name; null: there is none.
  [[nodiscard]] ggml_tensor* find(const std::string& name) const noexcept;
  /// Where the model reads its tokens; null where it does not look them up in an embedding.
  [[nodiscard]] const ggml_tensor* token_input() const noexcept { return tokens_; }

  /// The sequence that the graph is for from now on. Exactly length() tokens.
  void set_tokens(std::span<const std::int32_t> tokens);
  /// Fills the inputs that these nodes read: memory that they share with others is only theirs until it is used.
  void restore_inputs(std::span<ggml_tensor* const> read_by) const;

 private:
  static bool see_node(ggml_tensor* node, bool asked, void* self);
  void save_input(const ggml_tensor* source);
  void lay_out();

  std::size_t length_;
  llama_context_ptr context_;
  std::vector<ggml_tensor*> nodes_;
  std::map<const ggml_tensor*, std::vector<std::byte>> inputs_;
  const ggml_tensor* tokens_ = nullptr;
};

}  // namespace llama_adapter
