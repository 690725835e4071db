#pragma once

#include <cstddef>
#include <cstdint>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checked_ir.hpp"
#include "ir_session.hpp"
#include "ir_weights.hpp"

namespace openvino_adapter {

/// A language model in OpenVINO's format, on its CPU device. The weights of matrix products are inputs of the compiled model,
/// so that changing them costs a write to memory and no compilation.
class ir_model {
 public:
  /// Compiles. Throws klens::file_error for weights that cannot be ranked.
  ir_model(const checked_ir& ir, std::size_t threads);

  [[nodiscard]] std::size_t vocabulary() const noexcept { return untouched_.vocabulary; }
  /// The matrices as klens changes them; they view this model's memory and end with it.
  [[nodiscard]] std::vector<klens::layer> layers();

  /// Logits [sequences * length x vocabulary] under exact_settings.
  /// Throws klens::argument_error where the model takes sequences of another length only.
  [[nodiscard]] klens::matrix<float> logits(std::span<const std::int32_t> tokens, std::size_t length) {
    return session_->logits(tokens, length);
  }

  /// Those of one position of each sequence, [sequences x vocabulary]: what follows the tokens up to there. The model reads the
  /// whole sequences, whatever stands behind.
  [[nodiscard]] klens::matrix<float> logits_at(std::span<const std::int32_t> tokens, std::size_t length, std::size_t position);

  /// The untouched model as the device runs it if nobody asks for anything; compiled at the first call.
  [[nodiscard]] ir_session& by_default();

 private:
  checked_ir untouched_;
  std::vector<ir_weight> weights_;
  std::optional<ir_session> session_, by_default_;
};

}  // namespace openvino_adapter
