#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/forward.hpp>
#include <klens/matrix.hpp>
#include <span>

#include "engine/model.hpp"
#include "image_file.hpp"

namespace programs {

/// A model of images as klens wants it: a staged forward over batches of them, whose positions are the images.
class image_forward {
 public:
  image_forward(const model& of, const image_set& images, std::size_t images_per_batch, std::size_t threads)
      : model_{&of}, images_{&images}, per_batch_{images_per_batch}, threads_{threads} {}

  [[nodiscard]] std::size_t stages() const noexcept { return model_->stages(); }
  [[nodiscard]] state begin(std::size_t batch) const {
    const std::size_t all = static_cast<std::size_t>(images_->pixels.rows()), first = batch * per_batch_;
    const std::size_t count = std::min(per_batch_, all - first);
    return model_->begin_images(images_->pixels.middleRows(static_cast<Eigen::Index>(first), static_cast<Eigen::Index>(count)),
                                images_->each);
  }
  void advance(state& at, std::size_t stage) const { model_->advance(at, stage, threads()); }
  [[nodiscard]] klens::matrix<float> logits(const state& at) const { return model_->logits(at, threads()); }
  [[nodiscard]] std::size_t positions(const state& at) const noexcept { return at.sequences; }
  [[nodiscard]] klens::matrix<float> logits(const state& at, std::span<const std::size_t> rows) const {
    return model_->logits(at, rows);
  }
  /// Many rows an image: enough to find what rounding does, not for local scores.
  [[nodiscard]] klens::matrix_ref<float> residual(state& at) const { return at.hidden; }
  /// While somebody observes, one thread computes, so that inputs come one after the other.
  void observe_inputs(const klens::input_observer& observer) {
    observed_ = observer != nullptr;
    model_->show_inputs(observer);
  }
  /// FLOPs of a stage for one image.
  [[nodiscard]] double cost(std::size_t stage) const { return model_->flops(stage, images_->each); }

 private:
  [[nodiscard]] std::size_t threads() const noexcept { return observed_ ? 1 : threads_; }

  const model* model_;
  const image_set* images_;
  std::size_t per_batch_, threads_;
  bool observed_ = false;
};
static_assert(klens::positioned_forward<image_forward> && klens::residual_forward<image_forward> &&
              klens::input_showing_forward<image_forward>);

}  // namespace programs
