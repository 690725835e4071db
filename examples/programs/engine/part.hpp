#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <vector>

#include "workspace.hpp"

namespace programs {

class past;

/// What a part may use beside its input, for one sequence.
struct pass {
  workspace& work;
  std::vector<klens::matrix_ref<float>> kept{};  ///< [positions x columns] each: what one stage leaves for later ones
  past* before = nullptr;  ///< what came before the rows at hand, kept from here on; null: nothing did, and nothing is kept
};

/// A mixer or feed-forward network of a block.
class part {
 public:
  virtual ~part() = default;
  /// hidden += scale * part(x) for one sequence: both are [length x width], positions in order.
  virtual void add_to(klens::matrix_ref<float> hidden, const klens::const_matrix_ref<float>& x, float scale,
                      pass& at) const = 0;
  /// Floating-point operations of its matrix products for one sequence; a product and a sum are two.
  [[nodiscard]] virtual double flops(std::size_t length) const = 0;
};

}  // namespace programs
