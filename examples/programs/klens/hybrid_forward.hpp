#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/forward.hpp>
#include <klens/matrix.hpp>
#include <klens/site.hpp>
#include <span>
#include <vector>

#include "engine/model.hpp"
#include "token_set.hpp"

namespace programs {

/// The reference engine as klens wants it: a staged forward over the batches of a token set.
class hybrid_forward {
 public:
  hybrid_forward(const model& of, const token_set& tokens, std::size_t sequences_per_batch, std::size_t threads)
      : model_{&of}, tokens_{&tokens}, per_batch_{sequences_per_batch}, threads_{threads} {}

  [[nodiscard]] std::size_t batches() const noexcept { return (tokens_->sequences + per_batch_ - 1) / per_batch_; }
  [[nodiscard]] std::size_t stages() const noexcept { return model_->stages(); }

  [[nodiscard]] state begin(std::size_t batch) const {
    const std::size_t first = batch * per_batch_, count = std::min(per_batch_, tokens_->sequences - first);
    return model_->begin(std::span(tokens_->tokens).subspan(first * tokens_->length, count * tokens_->length), count,
                         tokens_->length);
  }
  /// The state of a batch after all stages: what the head reads.
  [[nodiscard]] state end(std::size_t batch) const {
    state at = begin(batch);
    for (std::size_t stage = 0; stage < stages(); ++stage) advance(at, stage);
    return at;
  }
  void advance(state& at, std::size_t stage) const { model_->advance(at, stage, threads()); }
  [[nodiscard]] klens::matrix<float> logits(const state& at) const { return model_->logits(at, threads()); }

  [[nodiscard]] std::size_t positions(const state& at) const noexcept { return at.sequences * at.length; }
  [[nodiscard]] klens::matrix<float> logits(const state& at, std::span<const std::size_t> rows) const {
    return model_->logits(at, rows);
  }

  [[nodiscard]] klens::matrix_ref<float> residual(state& at) const { return at.hidden; }

  /// What the model keeps while it runs, as layers; sizes are for sequences of the token set's length unless count_sites_as said
  /// otherwise.
  [[nodiscard]] std::vector<klens::layer> sites(std::span<const klens::site_kind> kinds) const {
    site_options options = counted_;
    if (options.context == 0) options.context = tokens_->length;
    return model_->sites(kinds, options);
  }
  void count_sites_as(const site_options& counted) { counted_ = counted; }

  /// While somebody observes, one thread computes, so that inputs come one after the other.
  void observe_inputs(const klens::input_observer& observer) {
    observed_ = observer != nullptr;
    model_->show_inputs(observer);
  }

  /// FLOPs of a stage for one sequence.
  [[nodiscard]] double cost(std::size_t stage) const { return model_->flops(stage, tokens_->length); }

 private:
  [[nodiscard]] std::size_t threads() const noexcept { return observed_ ? 1 : threads_; }

  const model* model_;
  const token_set* tokens_;
  std::size_t per_batch_;
  std::size_t threads_;
  bool observed_ = false;
  site_options counted_{.context = 0};
};
static_assert(klens::positioned_forward<hybrid_forward> && klens::residual_forward<hybrid_forward> &&
              klens::input_showing_forward<hybrid_forward> && klens::site_offering_forward<hybrid_forward>);

}  // namespace programs
