#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "linear.hpp"
#include "workspace.hpp"

namespace programs {

/// The places of an image, or of what stages made of it: one row of the hidden matrix each, row by row of the image.
struct image_grid {
  std::size_t height = 0, width = 0;

  [[nodiscard]] std::size_t places() const noexcept { return height * width; }
  /// After a convolution of stride 2: odd sizes round up.
  [[nodiscard]] image_grid halved() const noexcept { return {(height + 1) / 2, (width + 1) / 2}; }
};

/// A step of a model of images.
class image_step {
 public:
  virtual ~image_step() = default;
  /// x of one image, [places x channels], becomes what the step makes of it. `at` is the grid before the step.
  virtual void run(klens::matrix<float>& x, image_grid at, workspace& work) const = 0;
  [[nodiscard]] virtual image_grid after(image_grid before) const noexcept { return before; }
  /// Floating-point operations of its matrix products for one image.
  [[nodiscard]] virtual double flops(image_grid at) const = 0;
};

/// How a model of images arranges its steps. Each image gives one row of class logits.
struct image_network {
  std::vector<std::unique_ptr<image_step>> steps;
  std::unique_ptr<image_step> pool;  ///< after them: one row for the image, which the head reads
  linear head;

  /// The grid before steps[step].
  [[nodiscard]] image_grid grid_at(std::size_t step, image_grid image) const {
    for (std::size_t i = 0; i < step; ++i) image = steps[i]->after(image);
    return image;
  }
};

}  // namespace programs
