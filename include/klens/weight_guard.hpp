#pragma once

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/quant/round_trip.hpp>
#include <klens/quant/scheme.hpp>
#include <string>

namespace klens::detail {

/// Keeps a copy of a layer's weights and puts it back, bit for bit, when it goes: also after an exception. Between the two the
/// layer can be perturbed as often as one likes; every perturbation starts from the kept copy.
class weight_guard {
 public:
  explicit weight_guard(layer& guarded) : layer_{&guarded}, kept_{guarded.load()} {}
  weight_guard(const weight_guard&) = delete;
  weight_guard& operator=(const weight_guard&) = delete;
  ~weight_guard() {
    try {
      restore();
    } catch (...) {  // only a user's store callable can throw; restore() reports it where nothing else is under way
    }
  }

  /// Makes the layer's weights what `storage` would keep of the originals.
  weight_error perturb(const scheme& storage, const round_trip_options& options = {}) {
    perturbed_ = true;
    if (layer_->is_float_memory()) return round_trip(storage, kept_, layer_->floats(), options);
    matrix<float> changed(kept_.rows(), kept_.cols());
    const weight_error error = round_trip(storage, kept_, changed, options);
    layer_->store(changed);
    return error;
  }

  /// Whether the last perturbation changed any weight at all.
  [[nodiscard]] bool changed() const { return !layer_->holds(kept_); }

  void restore() {
    if (!perturbed_) return;
    layer_->store(kept_);
    perturbed_ = false;
  }

 private:
  layer* layer_;
  matrix<float> kept_;
  bool perturbed_ = false;
};

/// Throws numeric_error, naming the layer, row and column, unless every weight is finite.
inline void expect_finite_weights(const layer& each) {
  const matrix<float> weights = each.load();
  const auto* const end = weights.data() + weights.size();
  const auto* const bad = std::find_if_not(weights.data(), end, [](float w) { return std::isfinite(w); });
  if (bad == end) return;
  const auto at = bad - weights.data();
  throw numeric_error{each.name + ": weight [" + std::to_string(at / weights.cols()) + ", " +
                      std::to_string(at % weights.cols()) + "] is " + std::to_string(*bad) +
                      "; a layer with such a weight cannot be quantized: mend the model"};
}

}  // namespace klens::detail
