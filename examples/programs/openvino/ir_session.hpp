#pragma once

#include <cstddef>
#include <cstdint>
#include <klens/matrix.hpp>
#include <openvino/openvino.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checked_ir.hpp"

namespace openvino_adapter {

/// float32 on the CPU without quantized activations, one thread for each sequence: what a KL can be measured with. Logits are
/// the same, bit for bit, for any number of sequences and threads.
[[nodiscard]] ov::AnyMap exact_settings(std::size_t threads);

/// A compiled model.
class ir_session {
 public:
  /// As many sequences at once as there are `requests`. Throws klens::error where the device cannot compile the model.
  ir_session(const checked_ir& ir, const std::string& device, const ov::AnyMap& settings, std::size_t requests);

  [[nodiscard]] std::size_t vocabulary() const noexcept { return vocabulary_; }

  /// Gives a further input of the model to all sequences; `values` is shared, not copied.
  void set_input(std::size_t input, const ov::Tensor& values);

  /// Logits [sequences * length x vocabulary].
  /// Throws klens::argument_error where the model takes sequences of another length only.
  [[nodiscard]] klens::matrix<float> logits(std::span<const std::int32_t> tokens, std::size_t length);

  /// Runs one sequence and leaves its logits where they are.
  void run(std::span<const std::int32_t> tokens);

  /// In what the device computes: "CPU in bf16, dynamic quantization in groups of 32".
  [[nodiscard]] std::string settings() const;
  /// How many matrices the products with constant weights read compressed, and how many they read; the CPU device's.
  [[nodiscard]] std::pair<std::size_t, std::size_t> compressed_matrices() const;

 private:
  void start(ov::InferRequest& request, std::span<const std::int32_t> tokens) const;
  void expect_length(std::size_t length) const;

  std::string device_;
  std::size_t output_, vocabulary_;
  ov::Dimension length_;
  ov::CompiledModel compiled_;
  std::vector<ov::InferRequest> requests_;
};

}  // namespace openvino_adapter
