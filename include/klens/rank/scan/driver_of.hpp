#pragma once

#include <cstddef>
#include <klens/error.hpp>
#include <klens/forward.hpp>
#include <klens/rank/scan/driver.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A user's forward as a driver. The two weaker strengths have no stage before their logits; their state is the batch's index.
template <any_forward Forward>
class driver_of final : public driver {
 public:
  explicit driver_of(Forward& forward) : forward_{forward} {
    if constexpr (staged_forward<Forward>) {
      const auto stages = static_cast<std::size_t>(forward_.stages());
      constexpr std::size_t most = 1u << 20;
      if (stages > most) refuse<argument_error>({"the forward has ", stages, " stages; at most ", most, " make sense"});
      std::vector<double> costs(stages + 1, 1.0);
      if constexpr (requires(std::size_t s) { static_cast<double>(forward.cost(s)); })
        for (std::size_t s = 0; s <= stages; ++s) costs[s] = static_cast<double>(forward_.cost(s));
      set_costs(std::move(costs));
    }
  }

  [[nodiscard]] bool has_rows() const noexcept override { return positioned_forward<Forward>; }
  [[nodiscard]] bool has_residual() const noexcept override { return residual_forward<Forward>; }

  [[nodiscard]] bool shows_inputs() const noexcept override { return input_showing_forward<Forward>; }
  void observe_inputs(const input_observer& observer) override {
    if constexpr (input_showing_forward<Forward>) forward_.observe_inputs(observer);
  }

  [[nodiscard]] any_state begin(std::size_t batch) override {
    if constexpr (staged_forward<Forward>)
      return any_state::holding(forward_.begin(batch));
    else
      return any_state::holding(batch);
  }
  void advance(any_state& at, std::size_t stage) override {
    if constexpr (staged_forward<Forward>) forward_.advance(at.as<state>(), stage);
  }
  [[nodiscard]] std::size_t positions(const any_state& at) override {
    if constexpr (positioned_forward<Forward>) return static_cast<std::size_t>(forward_.positions(at.as<state>()));
    return 0;
  }

 private:
  static auto state_of(Forward& forward) {
    if constexpr (staged_forward<Forward>)
      return forward.begin(0);
    else
      return std::size_t{0};
  }
  using state = decltype(state_of(std::declval<Forward&>()));

  [[nodiscard]] logits_block all_logits(const any_state& at) override {
    if constexpr (staged_forward<Forward>) {
      if constexpr (requires(const state& seen) { forward_.logits(seen); })
        return block_of(forward_.logits(at.as<state>()));
      else
        return block_of(forward_.logits(const_cast<any_state&>(at).as<state>()));  // NOLINT: no state is const, logits keeps it
    } else if constexpr (batched_forward<Forward>) {
      return block_of(forward_(at.as<state>()));
    } else {
      return block_of(forward_());
    }
  }
  [[nodiscard]] logits_block chosen_logits(const any_state& at, std::span<const std::size_t> rows) override {
    if constexpr (positioned_forward<Forward>)
      return block_of(forward_.logits(at.as<state>(), rows));
    else
      throw argument_error{"this forward gives the logits of all positions at once only"};
  }
  [[nodiscard]] matrix_ref<float> residual_of(any_state& at) override {
    if constexpr (residual_forward<Forward>)
      return forward_.residual(at.as<state>());
    else
      throw argument_error{"this forward does not show its residual stream (klens::residual_forward)"};
  }

  Forward& forward_;
};

}  // namespace klens::detail
