#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/forward.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/layer_inputs.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/lists.hpp>
#include <klens/rank/scan/driver.hpp>
#include <klens/rank/scan/driver_of.hpp>
#include <klens/site_kind.hpp>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

/// Sums of what a layer's inputs were like.
class input_sums {
 public:
  input_sums(std::size_t columns, bool products)
      : squares_(Eigen::RowVectorXd::Zero(static_cast<Eigen::Index>(columns))),
        products_(products ? matrix<float>::Zero(squares_.size(), squares_.size()) : matrix<float>{}) {}

  void add(const std::string& layer, const const_matrix_ref<float>& inputs) {
    if (inputs.cols() != squares_.size())
      refuse<shape_error>(
          {layer, ": the forward shows inputs of ", inputs.cols(), " columns, the layer has ", squares_.size()});
    squares_ += inputs.cast<double>().colwise().squaredNorm();
    if (products_.size() != 0) products_.selfadjointView<Eigen::Lower>().rankUpdate(inputs.transpose());
    positions_ += static_cast<std::size_t>(inputs.rows());
  }

  [[nodiscard]] layer_inputs means() const {
    layer_inputs known;
    known.positions = positions_;
    if (positions_ == 0) return known;
    const double share = 1 / static_cast<double>(positions_);
    for (const double sum : squares_) known.mean_squares.push_back(static_cast<float>(sum * share));
    if (products_.size() != 0)
      known.second_moments = matrix<float>(products_.selfadjointView<Eigen::Lower>()) * static_cast<float>(share);
    return known;
  }

 private:
  Eigen::RowVectorXd squares_;
  matrix<float> products_;  // its lower half
  std::size_t positions_ = 0;
};

/// Also true of a layer that is known to have seen no inputs: looking again would show none.
[[nodiscard]] inline bool knows(const layer_inputs& inputs, input_need what) {
  return inputs.have(what) || (inputs.positions == 0 && inputs.mean_squares.empty());
}

/// Runs the forward over its batches and gives each layer that lacks them what its inputs were like.
inline void gather_inputs(std::span<layer> layers, driver& forward, std::size_t batches, input_need what) {
  std::map<std::string, input_sums, std::less<>> sums;
  for (const layer& each : layers)
    if (each.site == site_kind::weights && (!each.inputs || !knows(*each.inputs, what)))
      sums.emplace(each.name, input_sums{each.columns(), what == input_need::second_moments});
  if (sums.empty()) return;
  struct ends {
    driver& of;
    ~ends() {
      try {
        of.observe_inputs({});
      } catch (...) {  // the forward will say so itself
      }
    }
  };
  {
    const ends at_end{forward};
    forward.observe_inputs([&](std::string_view layer, const const_matrix_ref<float>& inputs) {
      const auto found = sums.find(layer);
      if (found != sums.end()) found->second.add(found->first, inputs);
    });
    for (std::size_t batch = 0; batch < batches; ++batch) {
      any_state at = forward.begin(batch);
      for (std::size_t stage = 0; stage < forward.stages(); ++stage) forward.advance(at, stage);
      (void)forward.logits(at);
    }
  }
  for (layer& each : layers) {
    const auto found = sums.find(each.name);
    if (found == sums.end()) continue;
    each.inputs = std::make_shared<const layer_inputs>(found->second.means());
    const auto& squares = each.inputs->mean_squares;
    const auto dead = std::count(squares.begin(), squares.end(), 0.0f);
    if (dead > 0)
      each.note += (each.note.empty() ? "" : "; ") + std::to_string(dead) + " of its " + std::to_string(squares.size()) +
                   " inputs were always 0";
    sums.erase(found);
  }
}

/// What the schemes need to know all together.
[[nodiscard]] inline input_need most_needed(const std::vector<scheme>& schemes) {
  input_need most = input_need::nothing;
  for (const scheme& each : schemes) most = std::max(most, each.needs());
  return most;
}

/// The same where a scheme asks for it.
inline void gather_missing_inputs(std::span<layer> layers, driver& forward, const std::vector<scheme>& schemes,
                                  std::size_t batches) {
  const input_need needed = most_needed(schemes);
  if (needed == input_need::nothing) return;
  const auto lacks = [&](const layer& each) {
    return each.site == site_kind::weights && (!each.inputs || !knows(*each.inputs, needed));
  };
  const auto first = std::find_if(layers.begin(), layers.end(), lacks);
  if (first == layers.end()) return;
  if (!forward.shows_inputs())
    refuse<argument_error>(
        {std::find_if(schemes.begin(), schemes.end(), [&](const scheme& each) { return each.needs() == needed; })->name(),
         ": looks at the inputs of layers; set layer::inputs (", first->name,
         " has none), or give a forward that shows them (klens::input_showing_forward)"});
  gather_inputs(layers, forward, batches, needed);
}

}  // namespace detail

/// Runs a forward over its batches and takes down, in layer::inputs, what went into the layers that lack it: the mean squares of
/// their columns, and where asked for their second moments. rank_layers does this on its own for schemes that need it.
/// Memory     second moments are a float for each pair of columns of each layer, all layers at once.
/// Cost       one forward; second moments another in^2 products a position and layer.
/// Result     a layer that the forward never showed knows of 0 positions, and informed schemes cannot store it.
template <class Forward>
  requires input_showing_forward<std::remove_reference_t<Forward>>
void gather_inputs(const layer_list& layers, Forward&& forward, std::size_t batches = 1,
                   input_need what = input_need::mean_squares) {
  using plain = std::remove_reference_t<Forward>;
  detail::expect_forward<plain>();
  detail::driver_of<plain> driver{forward};
  detail::gather_inputs(layers.all(), driver, batches, what);
}

}  // namespace klens
