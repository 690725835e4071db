#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/forward.hpp>
#include <klens/matrix.hpp>
#include <span>

#include "staged_model.hpp"
#include "token_set.hpp"

namespace llama_adapter {

/// Positions of a sequence: first, first + 1, ...
struct position_range {
  std::size_t first = 0, count = 0;
};

/// A staged model over the batches of a token set, as klens wants it; logits are those of a range of each sequence's positions.
class staged_forward {
 public:
  struct state {
    std::size_t batch = 0;
    klens::matrix<float> stream;  ///< of all sequences, [positions x width]
  };

  staged_forward(staged_model& of, const programs::token_set& tokens, std::size_t sequences_per_batch, position_range compared)
      : model_{&of}, tokens_{&tokens}, per_batch_{sequences_per_batch}, compared_{compared} {}

  [[nodiscard]] std::size_t stages() const noexcept { return model_->stages(); }
  [[nodiscard]] double cost(std::size_t stage) const noexcept { return model_->cost(stage); }

  [[nodiscard]] state begin(std::size_t batch) const { return {batch, {}}; }
  void advance(state& at, std::size_t stage) const {
    const std::span<const std::int32_t> tokens = tokens_->batch(at.batch, per_batch_);
    const auto length = static_cast<Eigen::Index>(tokens_->length);
    klens::matrix<float> own;
    for (std::size_t s = 0; s < sequences(at); ++s) {
      const auto first = static_cast<Eigen::Index>(s) * length;
      if (at.stream.size() != 0) own = at.stream.middleRows(first, length);
      model_->advance(tokens.subspan(s * tokens_->length, tokens_->length), stage, own);
      if (at.stream.size() == 0) at.stream.resize(static_cast<Eigen::Index>(tokens.size()), own.cols());
      at.stream.middleRows(first, length) = own;
    }
  }

  [[nodiscard]] std::size_t positions(const state& at) const noexcept { return sequences(at) * compared_.count; }
  [[nodiscard]] klens::matrix<float> logits(const state& at, std::span<const std::size_t> rows) const {
    klens::matrix<float> stream(static_cast<Eigen::Index>(rows.size()), at.stream.cols());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::size_t sequence = rows[i] / compared_.count, position = compared_.first + rows[i] % compared_.count;
      stream.row(static_cast<Eigen::Index>(i)) =
          at.stream.row(static_cast<Eigen::Index>(sequence * tokens_->length + position));
    }
    return model_->logits(stream);
  }
  [[nodiscard]] klens::matrix<float> logits(const state& at) const {
    std::vector<std::size_t> all(positions(at));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    return logits(at, all);
  }

  [[nodiscard]] klens::matrix_ref<float> residual(state& at) const { return at.stream; }

 private:
  [[nodiscard]] std::size_t sequences(const state& at) const {
    return tokens_->batch(at.batch, per_batch_).size() / tokens_->length;
  }

  staged_model* model_;
  const programs::token_set* tokens_;
  std::size_t per_batch_;
  position_range compared_;
};
static_assert(klens::positioned_forward<staged_forward> && klens::residual_forward<staged_forward>);

}  // namespace llama_adapter
