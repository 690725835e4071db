#pragma once

#include <algorithm>
#include <cmath>
#include <exception>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/informed_memory.hpp>
#include <klens/quant/layer_inputs.hpp>
#include <klens/quant/round_trip.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/site_kind.hpp>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// The scheme as it stores that layer: one that looks at inputs has seen the layer's. Throws argument_error, naming the layer,
/// where they are not known; shape_error where they are not those of its columns.
[[nodiscard]] inline scheme scheme_for(const layer& of, const scheme& storage) {
  if (storage.needs() == input_need::nothing) return storage;
  if (!of.inputs)
    detail::refuse<argument_error>(
        {of.name, " as ", storage.name(),
         ": nothing is known of the layer's inputs; gather them first (gather_inputs; klens rank and "
         "klens plan --statistics)"});
  if (of.inputs->positions == 0 && of.inputs->mean_squares.empty())  // of this layer alone, as where weights are too large
    detail::refuse<numeric_error>({"nothing came into this layer on the tokens that were looked at; ", storage.name(),
                                   " needs to see its inputs: use other tokens or a plain scheme"});
  detail::expect_inputs(of.name, *of.inputs, of.columns());
  return storage.informed_by(of.inputs);
}

/// Keeps a copy of a layer's weights and puts it back, bit for bit, when it goes: also after an exception. In between the layer
/// can take other weights as often as one likes.
///   klens::weight_guard guard{layer};
///   guard.apply("int4-g64");             // the layer now holds what int4-g64 would keep of its weights
///   const auto observed = forward();
/// Memory     one copy of the layer's weights as float: the originals, or, where the engine keeps those and lends memory
///            (lent_weights), the changed ones.
/// Failure    only a layer of callables can fail to restore: its `store` throws. restore() then throws restore_error; the
///            destructor cannot throw. Either way layer::restore_failure says that the weights are not back, and why.
class weight_guard {
 public:
  explicit weight_guard(layer& guarded) : layer_{&guarded} {
    if (layer_->lent() == nullptr) kept_ = layer_->load();
  }
  weight_guard(const weight_guard&) = delete;
  weight_guard& operator=(const weight_guard&) = delete;
  ~weight_guard() {
    try {
      restore();
    } catch (...) {  // layer::restore_failure has it
    }
  }

  /// Makes the layer's weights what `storage` would keep of the originals. Returns how far they moved.
  weight_error apply(const scheme& storage, const round_trip_options& options = {}) {
    applied_ = true;
    if (lent_weights* const lent = layer_->lent()) {
      if (lent->changes_itself()) return lent->change(scheme_for(*layer_, storage), options.threads);
      matrix_ref<float> floats =
          lent->borrow(static_cast<Eigen::Index>(layer_->rows()), static_cast<Eigen::Index>(layer_->columns()));
      return carry_out(storage, floats, floats, options);
    }
    if (layer_->is_float_memory()) return carry_out(storage, kept_, layer_->floats(), options);
    matrix<float> changed(kept_.rows(), kept_.cols());
    const weight_error error = carry_out(storage, kept_, changed, options);
    layer_->store(changed);
    return error;
  }

  /// Whether the layer's weights now differ from the originals in any bit.
  [[nodiscard]] bool changed() const {
    const lent_weights* const lent = layer_->lent();
    return lent ? lent->differs() : !layer_->holds(kept_);
  }

  /// Puts the originals back. Throws restore_error, naming the layer, where its `store` throws.
  void restore() {
    if (!applied_) return;
    applied_ = false;
    if (lent_weights* const lent = layer_->lent()) return lent->take_back();
    try {
      layer_->store(kept_);
    } catch (const std::exception& caught) {
      layer_->restore_failure = caught.what();
    } catch (...) {
      layer_->restore_failure = "store threw something that is no std::exception";
    }
    if (!layer_->restore_failure.empty()) throw restore_error{layer_->restore_failure_text()};
  }

 private:
  weight_error carry_out(const scheme& storage, const const_matrix_ref<float>& weights, matrix_ref<float> kept,
                         const round_trip_options& options) {
    if (storage.needs() == input_need::nothing) return round_trip(storage, weights, kept, options);
    if (!layer_->inputs || layer_->inputs->mean_squares.size() != layer_->columns())
      (void)scheme_for(*layer_, storage);  // throws
    if (!layer_->informed_) layer_->informed_ = std::make_shared<detail::informed_memory>();
    return layer_->informed_->round_trip(storage, layer_->inputs, weights, kept, options);
  }

  layer* layer_;
  matrix<float> kept_;
  bool applied_ = false;
};

namespace detail {

/// What went wrong, then each layer that could not be restored, unless the text names it already.
[[nodiscard]] inline std::string with_lost_weights(std::string problem, std::span<const layer> layers) {
  for (const layer& each : layers)
    if (!each.restore_failure.empty() && problem.find(each.restore_failure_text()) == std::string::npos)
      problem += "; " + each.restore_failure_text();
  return problem;
}

/// Throws restore_error where a layer could not be restored.
inline void expect_weights_back(std::span<const layer> layers) {
  for (const layer& each : layers)
    if (!each.restore_failure.empty()) throw restore_error{each.restore_failure_text()};
}

/// Throws argument_error where a layer was not restored earlier; numeric_error, naming the layer, row and column, unless every
/// weight is finite. A site of another kind has none.
inline void expect_finite_weights(const layer& each) {
  if (!each.restore_failure.empty()) throw argument_error{each.restore_failure_text()};
  if (each.site != site_kind::weights) return;
  const auto rows = static_cast<Eigen::Index>(each.rows()), columns = static_cast<Eigen::Index>(each.columns());
  const lent_weights* const lent = each.lent();
  matrix<float> weights(lent ? 1 : 0, columns);  // of such a layer one row at a time
  if (!lent) weights = each.load();
  const float* bad = nullptr;
  Eigen::Index at = 0;
  for (Eigen::Index r = 0; bad == nullptr && r < rows; ++r) {
    if (lent) lent->load(weights, r);
    const std::span<const float> own = row(std::as_const(weights), lent ? 0 : r);
    const auto found = std::find_if_not(own.begin(), own.end(), [](float w) { return detail::is_finite(w); });
    if (found != own.end()) bad = &*found;
    at = r * columns + (found - own.begin());
  }
  if (bad == nullptr) return;
  refuse<numeric_error>({each.name, ": weight [", at / columns, ", ", at % columns, "] is ",
                         number_text(static_cast<double>(*bad)),
                         "; a layer with such a weight cannot be quantized: repair the model"});
}

}  // namespace detail
}  // namespace klens
