#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <klens/site_kind.hpp>
#include <string>
#include <vector>

#include "workspace.hpp"

namespace programs {

class past;
class roundings;
struct parameter;

/// Something that a part keeps of each sequence while it runs, beside weights.
struct kept_vectors {
  std::string name;            ///< "model.layers.3.mamba.state"
  klens::site_kind kind;       ///< kv, state or conv
  const void* part = nullptr;  ///< who keeps it, and under which number
  int number = 0;
  std::size_t vectors = 0;               ///< of a sequence; of keys and values at each position
  std::size_t columns = 0;               ///< values of a vector
  std::size_t positions = 0;             ///< of keys and values: how many positions are kept at most; 0: all
  const parameter* read_with = nullptr;  ///< later steps that read it are those that use this parameter; null: none does
};

/// What stands before a tensor's own name: of "model.layers.3.mamba.A_log" and "A_log", "model.layers.3.mamba.".
[[nodiscard]] inline std::string prefix_of(const std::string& name, const std::string& own) {
  return name.substr(0, name.rfind(own));
}

/// What a part may use beside its input, for one sequence.
struct pass {
  workspace& work;
  std::vector<klens::matrix_ref<float>> kept{};  ///< [positions x columns] each: what one stage leaves for later ones
  const roundings* rounded = nullptr;            ///< what parts store otherwise than as floats; null: nothing
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
  /// What it keeps of each sequence while it runs.
  [[nodiscard]] virtual std::vector<kept_vectors> kept() const { return {}; }
};

}  // namespace programs
