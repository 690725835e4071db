#pragma once

#include <cstddef>
#include <klens/forward.hpp>
#include <span>
#include <type_traits>

namespace klens::detail {

/// Gives every strength of forward callable the shape of the staged one; the weaker two have no stage before their logits.
template <class Forward>
class as_staged {
 public:
  explicit as_staged(Forward& forward) : forward_{forward} {}

  [[nodiscard]] Forward& user() noexcept { return forward_; }

  [[nodiscard]] std::size_t stages() {
    if constexpr (staged_forward<Forward>)
      return forward_.stages();
    else
      return 0;
  }
  [[nodiscard]] auto begin(std::size_t batch) {
    if constexpr (staged_forward<Forward>)
      return forward_.begin(batch);
    else
      return batch;
  }
  template <class State>
  void advance(State& state, std::size_t stage) {
    if constexpr (staged_forward<Forward>) forward_.advance(state, stage);
  }
  template <class State>
  [[nodiscard]] matrix<float> logits(const State& state) {
    if constexpr (staged_forward<Forward>)
      return forward_.logits(state);
    else if constexpr (batched_forward<Forward>)
      return forward_(state);
    else
      return forward_();
  }

  /// True where logits can be had for chosen rows of a state: positions(state) says how many there are, logits(state, rows) may
  /// be called from several threads at once.
  static constexpr bool has_rows = positioned_forward<Forward>;
  template <class State>
  [[nodiscard]] std::size_t positions(const State& state) {
    return forward_.positions(state);
  }
  template <class State>
  [[nodiscard]] matrix<float> logits(const State& state, std::span<const std::size_t> rows) {
    return forward_.logits(state, rows);
  }

  /// The share of a whole forward that runs from the entry of `stage` to the logits. A staged forward may tell what each stage
  /// costs with cost(stage), in any unit, stages() being the head; otherwise all count alike.
  [[nodiscard]] double share_from(std::size_t stage) {
    double from_here = 0, all = 0;
    for (std::size_t s = 0; s <= stages(); ++s) {
      double each = 1;
      if constexpr (requires { forward_.cost(s); }) each = forward_.cost(s);
      all += each;
      if (s >= stage) from_here += each;
    }
    return from_here / all;
  }

 private:
  Forward& forward_;
};

}  // namespace klens::detail
