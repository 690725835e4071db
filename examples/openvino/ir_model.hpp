#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <klens/matrix.hpp>
#include <klens/rank/layer.hpp>
#include <memory>
#include <openvino/openvino.hpp>
#include <span>
#include <string>
#include <vector>

#include "ir_weights.hpp"

namespace openvino_adapter {

/// A language model in OpenVINO's format, on its CPU device. The weights of matrix products are inputs of the compiled model, so
/// that changing them costs a write to memory and no compilation.
/// Every sequence runs on its own and on one thread: logits are the same, bit for bit, for any batch and number of threads.
class ir_model {
 public:
  /// Reads and compiles. Throws klens::file_error: path, what is wrong, what to do.
  ir_model(const std::filesystem::path& xml, std::size_t threads);
  /// The same for a model in memory; `path` begins messages. The model is changed.
  ir_model(const std::shared_ptr<ov::Model>& model, const std::string& path, std::size_t threads);

  [[nodiscard]] std::size_t vocabulary() const noexcept { return vocabulary_; }
  /// The matrices as klens changes them; they view this model's memory and end with it.
  [[nodiscard]] std::vector<klens::layer> layers();

  /// Logits [sequences * length x vocabulary], in float32 without quantized activations.
  /// Throws klens::argument_error where the model takes sequences of another length only.
  [[nodiscard]] klens::matrix<float> logits(std::span<const std::int32_t> tokens, std::size_t length);

  /// The same by the untouched model as the device would run it if nobody asked for anything; compiles it at the first call.
  [[nodiscard]] klens::matrix<float> default_logits(std::span<const std::int32_t> tokens, std::size_t length);
  /// What these defaults are. After default_logits.
  [[nodiscard]] std::string default_settings() const;

 private:
  [[nodiscard]] klens::matrix<float> run(std::vector<ov::InferRequest>& requests, std::span<const std::int32_t> tokens,
                                         std::size_t length) const;
  void expect_length(std::size_t length) const;

  std::size_t vocabulary_ = 0;
  std::size_t output_ = 0;
  ov::Dimension length_;
  std::shared_ptr<ov::Model> untouched_;
  std::vector<ir_weight> weights_;
  ov::CompiledModel by_default_;
  std::vector<ov::InferRequest> requests_, default_requests_;
};

}  // namespace openvino_adapter
